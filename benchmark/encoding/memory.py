# SPDX-License-Identifier: Apache-2.0
"""How much memory a fit will take, before it starts: flat, nested and banded ridge.

A runner asks for the estimate of each fit of a cell, takes the largest, and refuses with :func:`require_memory` (exit
code 3) what cannot fit. Estimates are checked against measured peaks in the tests.
"""

from collections.abc import Sequence
from typing import NamedTuple

from voxelboard.benchmark.encoding.banded_columns import KEPT_BYTES
from voxelboard.benchmark.encoding.ridge import DEFAULT_TARGET_BLOCK
from voxelboard.benchmark.encoding.screening import OPERATOR_BYTES
from voxelboard.benchmark.encoding.streaming import FEW
from voxelboard.benchmark.errors import MissingPrerequisite

_FLOAT32, _FLOAT64 = 4, 8
# float64 tables of (alphas, folds, targets) that live at once while alphas are chosen
_CHOICE_TABLES = 5
# interpreter, torch and BLAS with their work space
BASE_BYTES = 400 << 20
# himalaya and scikit-learn beside them, which the banded search loads (449 MiB with them on the machine of the tests)
HIMALAYA_BYTES = 80 << 20
# What allocators keep beyond the arrays: on equal jobs the growth measured on two machines differed by an eighth.
ALLOWANCE = 1.2


class MemoryEstimate(NamedTuple):
    """Peak bytes. Without a GPU the device is the host, and ``host`` holds the sum."""

    host: int
    device: int


def estimate_memory(
    *,
    n_train: int,
    n_test: int,
    n_features: int,
    n_delays: int,
    n_targets: int,
    n_layers: int = 1,
    n_alphas: int = 10,
    n_folds: int = 5,
    target_block: int | None = None,
    on_gpu: bool = False,
    responses_in_memory: bool = True,
    features_in_memory: bool = False,
) -> MemoryEstimate:
    """Peak memory of designing and fitting ``n_layers`` layers one after the other on shared responses.

    Parameters
    ----------
    n_features : of one layer, undelayed, without the delays.
    n_targets : voxels of all subjects together.
    target_block : as given to ``fit_ridge``.
    responses_in_memory : False for memory-mapped responses.
    features_in_memory : True when all layers' features on TRs are (float32); the store maps them, then it is one layer's.
    """
    n_columns = n_features * n_delays
    block = _block_bytes(n_train, n_targets, target_block)
    per_target = _FLOAT32 * n_test + n_alphas * n_folds * (2 * _FLOAT32 + 4 * _FLOAT64)
    host = _FLOAT32 * (n_layers if features_in_memory else 1) * (n_train + n_test) * n_features + n_targets * per_target
    if responses_in_memory:
        host += _FLOAT32 * n_train * n_targets
    dual = 2 * n_columns > n_train
    width = n_train if dual else n_columns
    # narrow designs score their folds in feature space, without matrices (feature_space.FeatureOperators.suits)
    one_alpha = 0 if not dual and n_columns <= n_train // n_folds else _FLOAT32 * n_train * width
    operators = _kept_operators(one_alpha, n_alphas) + _FLOAT32 * n_alphas * n_test * width
    if dual:
        # Gram, cross Gram, one shifted copy, its factor, the inverse, one fold's solve
        factors = _FLOAT64 * n_train * (5 * n_train + 2 * n_test + 2 * n_train // n_folds)
        designing = _FLOAT64 * (n_train + n_test) * (2 * n_train + 2 * 1024)
    else:
        # design, its rotation and a row-sorted copy; X'X, its vectors and the work space of the decomposition
        factors = _FLOAT64 * (3 * n_train * n_columns + 5 * n_columns**2) + _FLOAT32 * n_train * n_columns
        designing = _FLOAT64 * 2 * (n_train + n_test) * n_columns
    return _on_its_place(host, max(designing, factors + operators + 3 * block), on_gpu)


def estimate_nested_memory(
    *,
    n_trs: int,
    n_features: int,
    n_delays: int,
    n_targets: int,
    n_outer: int = 5,
    n_alphas: int = 10,
    target_block: int | None = None,
    on_gpu: bool = False,
    responses_in_memory: bool = True,
) -> MemoryEstimate:
    """Peak memory of designing and fitting one layer by :func:`nested_ridge`, every outer fold left out in turn.

    Parameters
    ----------
    n_trs : all rows: each is a training row and, once, a test row.
    n_outer : outer folds; the inner folds of each are the others.

    The others are those of :func:`estimate_memory`.
    """
    n_columns = n_features * n_delays
    one_fold = -(-n_trs // n_outer)
    tables = n_alphas * n_outer * n_targets
    # statistics of the inner folds at the chosen alphas, and the predictions before and after they are put in order
    host = n_outer * n_outer * n_targets * 4 * _FLOAT64 + 2 * _FLOAT32 * n_trs * n_targets
    if responses_in_memory:
        host += _FLOAT32 * n_trs * n_targets
    if 2 * n_columns > n_trs:
        host += 2 * _FLOAT32 * tables * n_outer + _CHOICE_TABLES * _FLOAT64 * tables
        device = _nested_dual_bytes(n_trs, 2 * one_fold, n_outer, n_alphas)
        device += 3 * _block_bytes(n_trs, n_targets, target_block)
        device = max(device, _FLOAT64 * n_trs * (2 * n_trs + 2 * 1024))
    else:
        one = estimate_memory(
            n_train=n_trs - one_fold,
            n_test=one_fold,
            n_features=n_features,
            n_delays=n_delays,
            n_targets=n_targets,
            n_alphas=n_alphas,
            n_folds=n_outer - 1,
            target_block=target_block,
            on_gpu=True,
        )
        # the responses and the design of an outer fold's training rows are copies
        host += _FLOAT32 * (n_trs - one_fold) * n_targets + _CHOICE_TABLES * _FLOAT64 * tables
        device = round(one.device / ALLOWANCE) + 2 * _FLOAT64 * n_trs * n_columns
    return _on_its_place(host, device, on_gpu)


def _nested_dual_bytes(n_trs: int, n_left_out: int, n_outer: int, n_alphas: int) -> int:
    """Gram as given and sorted, inverses, and the operators of as many alphas and pairs of folds as are kept at a time."""
    square = _FLOAT64 * n_trs**2
    kept = n_alphas if n_alphas * square <= OPERATOR_BYTES else 1
    one_pair = _FLOAT32 * n_left_out * n_trs
    pairs = min(n_alphas * n_outer * (n_outer - 1) // 2 * one_pair, OPERATOR_BYTES + one_pair)
    # its rows of the inverse, those of the kept columns, the solution and its negative
    solving = 4 * _FLOAT64 * n_left_out * n_trs
    return (2 + kept) * square + max(2 * square, pairs + solving)


def estimate_banded_memory(
    *,
    n_train: int,
    n_test: int,
    band_columns: Sequence[int],
    n_targets: int,
    n_draws: int,
    n_alphas: int = 10,
    n_folds: int = 5,
    columns_form: bool | None = None,
    target_block: int | None = None,
    on_gpu: bool = False,
    responses_in_memory: bool = True,
) -> MemoryEstimate:
    """Peak memory of stacking bands, searching their weights and refitting: ``banded`` or ``banded_columns``.

    Parameters
    ----------
    band_columns : (n_bands,) columns of each band with its delays.
    n_draws : of band weights.
    columns_form : True for ``search_columns``, False for ``search_bands``; None takes the form that is smaller.

    The others are those of :func:`estimate_memory`.
    """
    n_bands, width = len(band_columns), sum(band_columns)
    in_columns = width <= n_train if columns_form is None else columns_form
    tables = (_CHOICE_TABLES + 2 if in_columns else _CHOICE_TABLES + 1) * _FLOAT64 * n_alphas * n_folds * n_targets
    predictions = _FLOAT32 * (n_bands + 1) * n_test * n_targets  # of each band, and their sum
    host = 2 * _FLOAT64 * n_draws * n_targets  # scores and alphas of every draw
    if responses_in_memory:
        host += _FLOAT32 * n_train * n_targets
    block = _block_bytes(n_train, n_targets, target_block)
    if not in_columns:
        device = _banded_dual_bytes(n_train, n_test, n_bands, n_alphas, n_folds) + 3 * block
        host += tables + predictions
    else:
        stages = _banded_columns_bytes(n_train, n_test, width, n_targets, n_folds, block)
        device = max(stages)
        if on_gpu:
            host += max(tables, predictions)
        else:
            device = max(stages.reading, stages.searching + tables, stages.refitting + predictions)
    found = _on_its_place(host, device, on_gpu)
    return found._replace(host=found.host + HIMALAYA_BYTES)


class _Stages(NamedTuple):
    """Bytes of the device in the stages of a search in columns, one after the other."""

    reading: int
    searching: int
    refitting: int


def _banded_columns_bytes(n_train: int, n_test: int, width: int, n_targets: int, n_folds: int, block: int) -> _Stages:
    """Designs of the bands, side by side and sorted; with them products with responses, bases of the folds, the refit."""
    rows = _FLOAT64 * (3 * n_train + 2 * n_test) * width
    square, one = _FLOAT64 * width**2, _FLOAT64 * n_folds * width
    kept = 2 * one * n_targets if one * n_targets <= KEPT_BYTES else 4 * one * FEW
    return _Stages(
        rows + (n_folds + 1) * square + kept + 3 * block,
        rows + (4 * n_folds + 5) * square + kept,
        rows + 5 * square + 3 * _FLOAT64 * width * FEW + 2 * block,
    )


def _banded_dual_bytes(n_train: int, n_test: int, n_bands: int, n_alphas: int, n_folds: int) -> int:
    """Grams as stacked and sorted, one mixture, its factor and inverse, the operators of the alphas kept at a time.

    The growth of equal jobs spreads by a fifth (280 to 343 MiB on two machines): two squares stand for what is kept.
    """
    square, cross = _FLOAT64 * n_train**2, _FLOAT64 * n_train * n_test
    one_alpha = _FLOAT32 * n_train * (n_train - n_train // n_folds)
    operators = _kept_operators(one_alpha, n_alphas)
    solving = 5 * square + 3 * square // n_folds
    stacking = 3 * n_bands * (square + cross)
    return max(stacking, n_bands * (2 * square + cross) + square + solving + operators)


def _block_bytes(n_trs: int, n_targets: int, target_block: int | None) -> int:
    """Responses of the targets that are on the device at a time."""
    return _FLOAT32 * n_trs * min(n_targets, target_block or DEFAULT_TARGET_BLOCK)


def _kept_operators(one_alpha: int, n_alphas: int) -> int:
    """Fold matrices of as many alphas as are kept at a time."""
    return one_alpha * min(n_alphas, max(1, OPERATOR_BYTES // max(1, one_alpha)))


def _on_its_place(host: int, device: int, on_gpu: bool) -> MemoryEstimate:
    """With the allowance, and on the host alone where there is no GPU."""
    host, device = BASE_BYTES + round(ALLOWANCE * host), round(ALLOWANCE * device)
    return MemoryEstimate(host, device) if on_gpu else MemoryEstimate(host + device, 0)


def require_memory(estimate: MemoryEstimate, host_bytes: int, device_bytes: int = 0) -> None:
    """Refuse a fit that cannot fit, before anything is loaded.

    Raises
    ------
    MissingPrerequisite
        with what is needed and what there is.
    """
    for name, need, there in (("host", estimate.host, host_bytes), ("GPU", estimate.device, device_bytes)):
        if need > there:
            raise MissingPrerequisite(
                f"the fit needs about {need / 2**30:.1f} GiB of {name} memory, {there / 2**30:.1f} GiB are there",
                "use fewer subjects at a time, memory-mapped responses, or a larger machine",
            )
