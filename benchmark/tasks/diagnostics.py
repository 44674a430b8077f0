# SPDX-License-Identifier: Apache-2.0
"""What a headline depends on: the same model with less data, equal width, static vectors taken out, its time shifted.

Everything here looks at one layer for each subject, the one that most of its scored ROIs chose, so that the columns can
be compared with each other and cost a few layers instead of all. Nothing here ranks a model.

``static``: H_u when static word vectors are taken out together with the confounds (statistics.md 2.3, the stricter column).
``capacity``: H_u of the leading principal components, the same number for every model (Lage-Castellanos et al. 2024: scores of
models of different width are not alike). ``shifted``: H_u of the same features with every story's shifted by half its
length: their width and autocorrelation, at the wrong time. ``train25``, ``train50``, ``train100``: H_u from a share of the
training segments, so that readers see whether width or data limit a score (statistics.md I).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from voxelboard.benchmark.encoding.designs import Problem, SegmentedDesign, primal_problem
from voxelboard.benchmark.encoding.ridge import fit_ridge
from voxelboard.benchmark.features.store import default_store_folder
from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.scratch import working_array
from voxelboard.benchmark.statistics.scores import voxel_correlation
from voxelboard.benchmark.stimuli.stories import Story
from voxelboard.benchmark.tasks.encode import (
    ConfoundFold,
    Encoding,
    Features,
    common_tr,
    fit_confounds,
    fit_unique,
    project,
    replace_delays,
    segmented,
)
from voxelboard.benchmark.tasks.preparation import (
    NOISE_BRAIN,
    Cohort,
    PreparedFold,
    inner_fold_numbers,
    rows_of,
)

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
LayerFeatures = Mapping[str, NDArray[np.floating]]  # story -> (n_trs, n_features) of one layer
Progress = Callable[[int, int], None]

_VOXEL_BLOCK = 2048  # voxels of a copy that are in memory at a time
# Fewer training segments have no two halves with two inner folds each.
_MIN_SEGMENTS = 4


@dataclass(frozen=True, eq=False)
class Beside:
    """What diagnostics need beside the model's features.

    static : story -> (n_trs, n_features) of static word vectors at the TRs, or None.
    deviation : (n_layers, n_trs_read, n_features) states at TRs minus those extracted again in float32, or None.
    """

    static: LayerFeatures | None = None
    deviation: Float32Array | None = None


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What was found for one subject.

    Attributes
    ----------
    layer : the layer that everything below looks at.
    predictions : name -> one (n_test_rows, n_voxels of the subject) array a fold, projected like the headline's.
    shares : name -> share of training segments in fact used, of ``train..``.
    effective_rank : participation ratio of the layer's training features, see :func:`effective_rank`.
    n_components : width of ``capacity``: the protocol's, or the model's own where that is smaller.
    shuffled_gap : mean r under shuffled TRs minus that with stories left out (E3); None with few training segments.
    shuffled_gap_noise : the same on a brain of noise, where all of it is leakage.
    """

    layer: int
    predictions: dict[str, list[Float32Array]]
    shares: dict[str, float]
    effective_rank: float
    n_components: int
    shuffled_gap: float | None
    shuffled_gap_noise: float | None


@dataclass(eq=False)
class _AtLayer:
    """Diagnostics of one layer for all voxels of a cohort."""

    predictions: dict[str, list[Float32Array]] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    effective_rank: float = 0.0
    n_components: int = 0
    shuffled: Float32Array | None = None  # (n_voxels,) r under shuffled TRs minus r with stories left out


def main_layer(encoding: Encoding, subject: str, rois: Sequence[str]) -> int:
    """The layer that most scored ROIs and folds of a subject chose; the lower one at a tie."""
    counted = Counter(layer for roi in rois for layer in encoding.chosen["unique"][subject, roi])
    return min(counted, key=lambda layer: (-counted[layer], layer))


def diagnose(
    features: Features,
    stories: Mapping[str, Story],
    cohort: Cohort,
    confounds: tuple[ConfoundFold, ...],
    layers: Mapping[str, int],
    scored_rois: Sequence[str],
    beside: Beside,
    protocol: Protocol,
    device: torch.device,
    progress: Progress = lambda done, total: None,
) -> dict[str, Diagnosis]:
    """Diagnose a model for some subjects of a cohort; ``layers`` is subject -> layer, see :func:`main_layer`."""
    found = {}
    for done, layer in enumerate(sorted(set(layers.values()))):
        progress(done, len(set(layers.values())))
        subjects = tuple(subject for subject in layers if layers[subject] == layer)
        part = _part_of(cohort, subjects)
        own = {name: table[layer] for name, table in features.items()}
        deviation = None if beside.deviation is None else beside.deviation[layer]
        at = _at_layer(own, stories, part, confounds, replace(beside, deviation=deviation), protocol, device)
        for subject in subjects:
            columns = part.columns[subject]
            scored = np.isin(part.rois[subject], scored_rois)
            found[subject] = Diagnosis(
                layer=layer,
                predictions={name: [fold[:, columns] for fold in folds] for name, folds in at.predictions.items()},
                shares=at.shares,
                effective_rank=at.effective_rank,
                n_components=at.n_components,
                shuffled_gap=None if at.shuffled is None else float(at.shuffled[columns][scored].mean()),
                shuffled_gap_noise=None
                if at.shuffled is None
                else float(at.shuffled[part.columns[NOISE_BRAIN]].mean()),
            )
    return found


def _part_of(cohort: Cohort, subjects: Sequence[str]) -> Cohort:
    """Some subjects of a cohort and its noise brain."""
    kept = [*subjects, NOISE_BRAIN]
    if set(kept) == set(cohort.columns):
        return cohort
    voxels = np.concatenate([np.arange(cohort.n_voxels)[cohort.columns[name]] for name in kept])
    columns, start = {}, 0
    for name in kept:
        columns[name] = slice(start, start + len(cohort.rois[name]))
        start += len(cohort.rois[name])
    folds = tuple(
        replace(
            fold,
            responses=taken(fold.responses, np.arange(len(fold.responses)), voxels),
            test_responses={name: fold.test_responses[name] for name in kept},
        )
        for fold in cohort.folds
    )
    return Cohort(tuple(subjects), columns, {name: cohort.rois[name] for name in kept}, folds)


def _at_layer(
    own: LayerFeatures,
    stories: Mapping[str, Story],
    cohort: Cohort,
    confounds: tuple[ConfoundFold, ...],
    beside: Beside,
    protocol: Protocol,
    device: torch.device,
) -> _AtLayer:
    found = _AtLayer()
    tr = common_tr({name: stories[name] for name in own})
    design = segmented(own, protocol, tr)
    shifted = {name: np.roll(table, len(table) // 2, axis=0) for name, table in own.items()}
    variants = {"shifted": segmented(shifted, protocol, tr)}
    if beside.deviation is not None:
        variants["exact"] = segmented(without_deviation(own, beside.deviation, protocol.seed), protocol, tr)
    for f, (fold, confound) in enumerate(zip(cohort.folds, confounds, strict=True)):
        problem = design.problem(fold.train, fold.test, device=device)
        narrow, found.n_components = _leading_components(own, fold, protocol, tr, device)
        problems = {name: v.problem(fold.train, fold.test, device=device) for name, v in variants.items()}
        for name, each in {**problems, "capacity": narrow}.items():
            fit, _, _ = fit_unique(each, fold, confound, protocol)
            found.predictions.setdefault(name, []).append(project(fit.test_predictions, confound.bases))
        if beside.static is not None:
            rows = _static_rows(beside.static, fold, protocol, tr)
            fit, _, left = fit_unique(problem, fold, confound, protocol, rows)
            # A correlation has no scale: what ridge leaves of static vectors themselves, a thousandth of their size,
            # would score like the whole (measured: .83).
            alive = left >= protocol.diagnostics.least_residual_share
            predictions = project(fit.test_predictions, confound.bases) * np.float32(alive)
            found.predictions.setdefault("static", []).append(predictions)
        if f == 0:
            found.effective_rank = effective_rank(_undelayed_rows(own, fold, protocol, tr))
            found.shuffled = _shuffled_minus_held_out(problem, fold, protocol)
    for share in protocol.diagnostics.train_shares:
        name = f"train{round(100 * share)}"
        smaller = _with_less_training(cohort, share, protocol)
        if smaller is None:
            continue
        found.shares[name] = len(smaller.folds[0].train) / len(cohort.folds[0].train)
        found.predictions[name] = list(_predict(design, stories, smaller, protocol, device))
    return found


def _predict(
    design: SegmentedDesign, stories: Mapping[str, Story], cohort: Cohort, protocol: Protocol, device: torch.device
) -> Iterator[Float32Array]:
    """Projected unique predictions of each fold, confounds and all fitted to the cohort's training segments alone."""
    confounds = fit_confounds(stories, cohort, protocol, device, floor=False)
    for fold, confound in zip(cohort.folds, confounds, strict=True):
        fit, _, _ = fit_unique(design.problem(fold.train, fold.test, device=device), fold, confound, protocol)
        yield project(fit.test_predictions, confound.bases)


def without_deviation(features: LayerFeatures, deviation: Float32Array, seed: int) -> dict[str, Float32Array]:
    """Features with measured deviations taken off at random TRs: what other rounding would have made of them.

    ``deviation`` (n_trs_read, n_features) was measured on a few TRs; each TR of the stories gets that of a drawn one.
    """
    rng = np.random.default_rng([seed, len(deviation)])
    return {
        name: (table - deviation[rng.integers(len(deviation), size=len(table))]).astype(np.float32)
        for name, table in features.items()
    }


def taken(
    responses: Float32Array, rows: NDArray[np.integer], voxels: NDArray[np.integer] | None = None
) -> Float32Array:
    """Some rows and voxels of prepared responses, a copy that lies on disk where it is large, as they do."""
    columns = np.arange(responses.shape[1]) if voxels is None else voxels
    found = working_array((len(rows), len(columns)), default_store_folder())
    for first in range(0, len(columns), _VOXEL_BLOCK):
        block = columns[first : first + _VOXEL_BLOCK]
        found[:, first : first + _VOXEL_BLOCK] = responses[:, block][rows]
    return found


def _undelayed_rows(features: LayerFeatures, fold: PreparedFold, protocol: Protocol, tr: float) -> FloatArray:
    """(n_train_rows, n_features) trimmed, filtered, of unit variance; constant features left out."""
    design = segmented(features, replace_delays(protocol, (0,)), tr)
    return design.rows(fold.train, design.inverse_scales(fold.train))


def effective_rank(rows: FloatArray) -> float:
    """Participation ratio ``(sum of eigenvalues)^2 / sum of squared eigenvalues`` of the covariance of ``rows``.

    ``rows`` is (n_rows, n_features); between 1 and the smaller of the two; 0 without any variance.
    """
    gram = rows.T @ rows if rows.shape[1] <= rows.shape[0] else rows @ rows.T
    total = float((gram**2).sum())
    return float(np.trace(gram)) ** 2 / total if total > 0 else 0.0


def _leading_components(
    features: LayerFeatures, fold: PreparedFold, protocol: Protocol, tr: float, device: torch.device
) -> tuple[Problem, int]:
    """The design of the leading principal components of a layer, which are those of its training rows.

    A model that is narrower keeps all its directions. Components keep their own variance: nothing is whitened.
    """
    design = segmented(features, replace_delays(protocol, (0,)), tr)
    scales = design.inverse_scales(fold.train)
    rows = design.rows(fold.train, scales)
    n = min(protocol.diagnostics.capacity_components, *rows.shape)
    if n == 0:
        empty = segmented(features, protocol, tr)
        return empty.problem(fold.train, fold.test, device=device), 0
    axes = PCA(n, random_state=protocol.seed % 2**32).fit(rows).components_  # (n, n_kept)
    used = dict.fromkeys(segment.story for segment in (*fold.train, *fold.test))
    keep = np.flatnonzero(scales)
    projected = {name: (features[name][:, keep] * scales[keep]) @ axes.T for name in used}
    narrow = segmented(projected, protocol, tr)
    unscaled = np.ones(n)
    return primal_problem(narrow.rows(fold.train, unscaled), narrow.rows(fold.test, unscaled), device), n


def _static_rows(
    static: LayerFeatures, fold: PreparedFold, protocol: Protocol, tr: float
) -> tuple[FloatArray, FloatArray]:
    used = dict.fromkeys(segment.story for segment in (*fold.train, *fold.test))
    design = segmented({name: static[name] for name in used}, protocol, tr)
    scales = design.inverse_scales(fold.train)
    return design.rows(fold.train, scales), design.rows(fold.test, scales)


def _with_less_training(cohort: Cohort, share: float, protocol: Protocol) -> Cohort | None:
    """The cohort with a share of the training segments of each fold, evenly spaced by name; None where none can go."""
    folds = []
    for fold in cohort.folds:
        n = len(fold.train)
        wanted = max(2, round(share * n))
        if wanted >= n:
            return None
        by_name = sorted(range(n), key=lambda i: (fold.train[i].story, fold.train[i].start))
        kept = sorted(by_name[(k * n) // wanted] for k in range(wanted))
        folds.append(_restrict(fold, kept, protocol))
    return replace(cohort, folds=tuple(folds))


def _restrict(fold: PreparedFold, kept: Sequence[int], protocol: Protocol) -> PreparedFold:
    """A fold with the training segments number ``kept``."""
    lengths = _row_counts(fold, protocol)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    rows = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in kept])
    train = tuple(fold.train[i] for i in kept)
    inner = np.repeat(inner_fold_numbers(train, protocol.encoding.n_inner_folds), [lengths[i] for i in kept])
    return replace(fold, train=train, inner_folds=inner, responses=taken(fold.responses, rows))


def _row_counts(fold: PreparedFold, protocol: Protocol) -> list[int]:
    return [(rows := rows_of(segment, protocol.design)).stop - rows.start for segment in fold.train]


def _shuffled_minus_held_out(problem: Problem, fold: PreparedFold, protocol: Protocol) -> Float32Array | None:
    """(n_voxels,) r of half of the training TRs from the other half, dealt at random minus dealt by story (E3).

    Both splits are of the training data, have the same size and the same noise: what differs is the leakage.
    """
    if len(fold.train) < _MIN_SEGMENTS:
        return None
    shuffled = np.random.default_rng([protocol.seed, 3]).permutation(problem.n_train)
    inner = np.arange((problem.n_train + 1) // 2) % protocol.encoding.n_inner_folds
    leaky = _half_to_half(problem, fold.responses, shuffled[::2], shuffled[1::2], inner, protocol)
    numbers = inner_fold_numbers(fold.train, len(fold.train))  # position of each segment by name
    position = np.repeat(numbers, _row_counts(fold, protocol))
    here, there = (np.flatnonzero(position % 2 == side) for side in (0, 1))
    inner = position[here] // 2 % protocol.encoding.n_inner_folds
    honest = _half_to_half(problem, fold.responses, here, there, inner, protocol)
    gap: Float32Array = (leaky - honest).astype(np.float32)
    return gap


def _half_to_half(
    problem: Problem,
    responses: Float32Array,
    here: NDArray[np.intp],
    there: NDArray[np.intp],
    inner: NDArray[np.intp],
    protocol: Protocol,
) -> FloatArray:
    rows, others = (torch.as_tensor(index, device=problem.train.device) for index in (here, there))
    if problem.form == "primal":
        train, test = problem.train[rows], problem.train[others]
        norms = (test**2).sum(1)
    else:
        train, test = problem.train[rows][:, rows], problem.train[others][:, rows]
        norms = torch.diagonal(problem.train)[others]
    half = Problem(problem.form, train.contiguous(), test.contiguous(), norms, problem.n_columns)
    fit = fit_ridge(half, taken(responses, here), inner, protocol.encoding.relative_alphas)
    return voxel_correlation(fit.test_predictions, taken(responses, there))
