# SPDX-License-Identifier: Apache-2.0
"""How much memory a fit will take, before it starts."""

from typing import NamedTuple

from voxelboard.benchmark.encoding.ridge import DEFAULT_TARGET_BLOCK, OPERATOR_BYTES
from voxelboard.benchmark.errors import MissingPrerequisite

_FLOAT32, _FLOAT64 = 4, 8
# interpreter, torch and BLAS with their work space
BASE_BYTES = 400 << 20
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
    block = _FLOAT32 * n_train * min(n_targets, target_block or DEFAULT_TARGET_BLOCK)
    per_target = _FLOAT32 * n_test + n_alphas * n_folds * (2 * _FLOAT32 + 4 * _FLOAT64)
    host = _FLOAT32 * (n_layers if features_in_memory else 1) * (n_train + n_test) * n_features + n_targets * per_target
    if responses_in_memory:
        host += _FLOAT32 * n_train * n_targets
    dual = 2 * n_columns > n_train
    width = n_train if dual else n_columns
    one_alpha = _FLOAT32 * n_train * width
    operators = one_alpha * min(n_alphas, max(1, OPERATOR_BYTES // max(1, one_alpha)))
    operators += _FLOAT32 * n_alphas * n_test * width
    if dual:
        # Gram, cross Gram, one shifted copy, its factor, the inverse, one fold's solve
        factors = _FLOAT64 * n_train * (5 * n_train + 2 * n_test + 2 * n_train // n_folds)
        designing = _FLOAT64 * (n_train + n_test) * (2 * n_train + 2 * 1024)
    else:
        # design, its rotation and a row-sorted copy; X'X, its vectors and the work space of the decomposition
        factors = _FLOAT64 * (3 * n_train * n_columns + 5 * n_columns**2) + _FLOAT32 * n_train * n_columns
        designing = _FLOAT64 * 2 * (n_train + n_test) * n_columns
    device = round(ALLOWANCE * max(designing, factors + operators + 3 * block))
    host = BASE_BYTES + round(ALLOWANCE * host)
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
