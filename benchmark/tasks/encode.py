# SPDX-License-Identifier: Apache-2.0
"""Encoding of a cohort by one model: every layer, raw and confound-free, the layer chosen inside the training data."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.designs import Problem, SegmentedDesign, primal_problem
from voxelboard.benchmark.encoding.residual import confound_basis, project_out, residualise
from voxelboard.benchmark.encoding.ridge import RidgeFit, fit_ridge
from voxelboard.benchmark.encoding.streaming import Responses
from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.features.confounds import confound_bins, confound_features, convolved_confounds
from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.readers.base import Segment, Timed
from voxelboard.benchmark.stimuli.stories import RowUnit, Story
from voxelboard.benchmark.tasks.fit_checks import EdgeCount, edge_count
from voxelboard.benchmark.tasks.preparation import Cohort, PreparedFold
from voxelboard.benchmark.tasks.resident import on_device

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
Features = Mapping[str, NDArray[np.float32]]  # story -> (n_layers, n_trs, n_features)
LayerProgress = Callable[[int, int], None]  # (layers done, layers in all)

ROWS = ("raw", "unique")  # the two encodings of a model: as it is, and what confounds cannot say


@dataclass(frozen=True, eq=False)
class ConfoundFold:
    """What a cohort's confounds are to one fold.

    Attributes
    ----------
    train, test : (n_train_rows, n_confounds), (n_test_rows, n_confounds) design rows of the confounds.
    floor : (n_test_rows, n_voxels) float32, predictions from the confounds alone.
    bases : for each test segment (n_rows, k) orthonormal: what is projected out of unique predictions.
    """

    train: FloatArray
    test: FloatArray
    floor: Float32Array
    bases: tuple[FloatArray, ...]


@dataclass(eq=False)
class Encoding:
    """Predictions of one model for a cohort.

    Attributes
    ----------
    predictions : row -> one (n_test_rows, n_voxels) float32 array a fold; rows raw, unique, joint.
    chosen : row -> (subject, ROI) -> the chosen layer of each fold.
    inner : row -> (subject, ROI) -> (n_folds, n_layers) pooled inner correlation at fold-held-out alphas.
    sd_ratios : test over training SD of the confound-free features, for each fold and layer.
    edge_shares : subject -> share of voxels whose alpha lies at an end of the grid, raw row, each fold and layer.
    reliable_edges : subject -> (those of them that the training data predict at all, how many these are), each fold and layer.

    Predictions of layers that were not chosen are handed to ``each_layer`` and not kept.
    """

    predictions: dict[str, list[Float32Array]] = field(default_factory=lambda: {row: [] for row in (*ROWS, "joint")})
    chosen: dict[str, dict[tuple[str, str], list[int]]] = field(default_factory=lambda: {row: {} for row in ROWS})
    inner: dict[str, dict[tuple[str, str], list[list[float]]]] = field(
        default_factory=lambda: {row: {} for row in ROWS}
    )
    sd_ratios: list[float] = field(default_factory=list)
    edge_shares: dict[str, list[float]] = field(default_factory=dict)
    reliable_edges: dict[str, list[EdgeCount]] = field(default_factory=dict)


# Called for every layer with (fold, layer, unique predictions of the test rows).
LayerSink = Callable[[int, int, Float32Array], None]
# Called for every layer with (fold, layer, unique fit, unique predictions of the test rows).
FitSink = Callable[[int, int, RidgeFit, Float32Array], None]


def segmented(features: Mapping[str, NDArray[np.floating]], protocol: Protocol, tr: float) -> SegmentedDesign:
    """The protocol's design of one feature space; ``features`` is story -> (n_trs, n_features), undelayed."""
    policy = protocol.design
    by_story = dict[Hashable, NDArray[np.floating]](features.items())
    return SegmentedDesign(
        features=by_story,
        delays=policy.delays_trs,
        trim=policy.trim_trs,
        tr=tr,
        cutoff_s=policy.high_pass_s,
        constant_tolerance=policy.constant_tolerance,
    )


def common_tr(stories: Mapping[str, Timed]) -> float:
    """The TR of all stories, in seconds; raises DataError when they differ."""
    trs = {story.tr for story in stories.values()}
    if len(trs) != 1:
        raise DataError(f"stories have different TRs: {sorted(trs)} s", "score them as separate data sets")
    return trs.pop()


def row_unit(stories: Mapping[str, Story]) -> RowUnit:
    """What a row of all stories is; raises DataError when they differ."""
    units = {story.row_unit for story in stories.values()}
    if len(units) != 1:
        raise DataError(f"stories have different rows: {sorted(units)}", "score them as separate data sets")
    return units.pop()


def for_rows(protocol: Protocol, stories: Mapping[str, Story]) -> Protocol:
    """The protocol as it applies to the rows of a data set: :class:`SentencePolicy` where they are sentences."""
    if row_unit(stories) == "TR":
        return protocol
    return replace(protocol, design=protocol.sentences.design(protocol.design))


def fit_confounds(
    stories: Mapping[str, Story], cohort: Cohort, protocol: Protocol, device: torch.device, *, floor: bool = True
) -> tuple[ConfoundFold, ...]:
    """Confound designs, floor predictions and projectors of every fold. Bins come from the fold's training stories.

    Without ``floor`` nothing is fitted to responses and the floor predictions have no column.
    """
    tr = common_tr(stories)
    fitted = []
    for fold in cohort.folds:
        bins = confound_bins([stories[name] for name in dict.fromkeys(s.story for s in fold.train)], protocol.confounds)
        used = {name: stories[name] for name in dict.fromkeys(s.story for s in (*fold.train, *fold.test))}
        unbounded = {name: confound_features(story, bins, protocol.confounds) for name, story in used.items()}
        columns = within_training_range(unbounded, fold.train)
        design = segmented(columns, protocol, tr)
        scales = design.inverse_scales(fold.train)
        train, test = design.rows(fold.train, scales), design.rows(fold.test, scales)
        predictions = np.zeros((len(test), 0), dtype=np.float32)
        if floor:
            predictions = _fit(primal_problem(train, test, device), fold, protocol).test_predictions
        # a sentence has one amplitude: nothing lags behind its confounds
        lagging = columns if row_unit(used) == "sentence" else convolved_confounds(columns, tr)
        convolved = segmented(lagging, replace_delays(protocol, (0,)), tr)
        convolved_scales = convolved.inverse_scales(fold.train)
        bases = tuple(
            confound_basis(
                np.concatenate([convolved.rows([segment], convolved_scales), design.rows([segment], scales)], axis=1),
                design.n_rows([segment]).tolist(),
                protocol.confounds.max_projection_share,
            )
            for segment in fold.test
        )
        fitted.append(ConfoundFold(train, test, predictions, bases))
    return tuple(fitted)


def within_training_range(columns: Mapping[str, FloatArray], train: Sequence[Segment]) -> dict[str, FloatArray]:
    """Confounds of each story, clipped to the range that they have in the training segments.

    A confound that training hardly shows (the onset of the only story, when its first segment is left out) would be
    scaled up without bound on test data and wreck the residuals (statistics.md F6: residualisation must not
    extrapolate). Training rows are inside their range, so they stay as they are.
    """
    seen = np.concatenate([columns[segment.story][segment.start : segment.stop] for segment in train])
    low, high = seen.min(axis=0), seen.max(axis=0)
    return {name: np.clip(table, low, high) for name, table in columns.items()}


def replace_delays(protocol: Protocol, delays: tuple[int, ...]) -> Protocol:
    """The protocol with other delays, for designs that are on the clock of the responses already."""
    return replace(protocol, design=replace(protocol.design, delays_trs=delays))


def encode(
    features: Features,
    stories: Mapping[str, Story],
    cohort: Cohort,
    confounds: tuple[ConfoundFold, ...],
    protocol: Protocol,
    device: torch.device,
    each_layer: LayerSink | None = None,
    progress: LayerProgress | None = None,
    each_fit: FitSink | None = None,
) -> Encoding:
    """Fit all layers of a model to a cohort, raw and unique, and keep the predictions of the chosen layers.

    The layer of a subject and ROI is the one with the best pooled inner correlation on training data. One layer is in
    memory at a time beside the best so far.
    """
    result = Encoding()
    n_layers = len(next(iter(features.values())))
    tr = common_tr(stories)
    for f, (fold, confound) in enumerate(zip(cohort.folds, confounds, strict=True)):
        best = {row: BestLayers(cohort, len(confound.floor)) for row in (*ROWS, "joint")}
        used = dict.fromkeys(segment.story for segment in (*fold.train, *fold.test))
        n_features = next(iter(features.values())).shape[2]
        responses = on_device(fold.responses, len(confound.test), n_features, protocol, device)
        for layer in range(n_layers):
            design = segmented({name: features[name][layer] for name in used}, protocol, tr)
            problem = design.problem(fold.train, fold.test, device=device)
            raw = _fit(problem, fold, protocol, responses)
            unique, sd_ratio, left = fit_unique(problem, fold, confound, protocol, responses=responses)
            projected = project(unique.test_predictions, confound.bases)
            best["raw"].offer(layer, raw, raw.test_predictions)
            best["unique"].offer(layer, unique, projected)
            # A layer that is all confound adds nothing to them: what rounding leaves of it has weights without bound, and
            # is no calibrated prediction where it grows on test data.
            calibrated = sd_ratio <= protocol.diagnostics.most_residual_growth
            alive = calibrated and left >= protocol.diagnostics.least_residual_share
            best["joint"].offer(layer, unique, confound.floor + np.float32(alive) * unique.test_predictions)
            result.sd_ratios.append(sd_ratio)
            for subject, voxels in cohort.columns.items():
                result.edge_shares.setdefault(subject, []).append(float(raw.at_grid_edge[voxels].mean()))
                result.reliable_edges.setdefault(subject, []).append(edge_count(raw, voxels))
            if each_layer is not None:
                each_layer(f, layer, projected)
            if each_fit is not None:
                each_fit(f, layer, unique, projected)
            if progress is not None:
                progress(f * n_layers + layer + 1, len(cohort.folds) * n_layers)
        for row, kept in best.items():
            result.predictions[row].append(kept.predictions)
        for row in ROWS:
            for unit, layer in best[row].chosen.items():
                result.chosen[row].setdefault(unit, []).append(layer)
                result.inner[row].setdefault(unit, []).append(best[row].inner[unit])
    return result


def _fit(problem: Problem, fold: PreparedFold, protocol: Protocol, responses: Responses | None = None) -> RidgeFit:
    policy = protocol.encoding
    return fit_ridge(
        problem,
        fold.responses if responses is None else responses,
        fold.inner_folds,
        policy.relative_alphas,
        selection=policy.alpha_selection,
    )


class UniqueFit(NamedTuple):
    """A fit of residuals, their test over training SD (F6), and the share of the design's power that they are."""

    fit: RidgeFit
    sd_ratio: float
    residual_share: float


def fit_unique(
    problem: Problem,
    fold: PreparedFold,
    confound: ConfoundFold,
    protocol: Protocol,
    beside: tuple[FloatArray, FloatArray] | None = None,
    *,
    responses: Responses | None = None,
) -> UniqueFit:
    """Fit what a design holds beyond the confounds (statistics.md 2.3).

    ``beside`` are training and test rows of another space (static vectors) that is taken out together with the
    confounds; ``responses`` are the fold's where they lie on the device already. The predictions are not projected yet, see
    :func:`project`.
    """
    rows, lambdas = (confound.train, confound.test), protocol.confounds.relative_lambdas
    if beside is not None:
        rows = (np.concatenate([rows[0], beside[0]], axis=1), np.concatenate([rows[1], beside[1]], axis=1))
        lambdas = (protocol.diagnostics.static_lambda,)
    residual = residualise(problem, *rows, fold.inner_folds, lambdas)
    power = problem.mean_row_power
    share = residual.problem.mean_row_power / power if power > 0 else 0.0
    return UniqueFit(_fit(residual.problem, fold, protocol, responses), residual.sd_ratio, share)


def project(predictions: Float32Array, bases: tuple[FloatArray, ...]) -> Float32Array:
    """Take the confounds' directions out of the predictions of each test segment."""
    stops = np.cumsum([len(basis) for basis in bases])[:-1]
    parts = [project_out(part, basis) for part, basis in zip(np.split(predictions, stops), bases, strict=True)]
    return np.concatenate(parts).astype(np.float32)


class BestLayers:
    """For each subject and ROI the predictions of the layer with the best inner score so far; ties keep the first."""

    def __init__(self, cohort: Cohort, n_test: int) -> None:
        self.units = {
            (subject, str(roi)): cohort.columns[subject].start + np.flatnonzero(cohort.rois[subject] == roi)
            for subject in cohort.columns
            for roi in dict.fromkeys(cohort.rois[subject].tolist())
        }
        self.predictions = np.zeros((n_test, cohort.n_voxels), dtype=np.float32)
        self.chosen: dict[tuple[str, str], int] = {}
        self.inner: dict[tuple[str, str], list[float]] = {unit: [] for unit in self.units}

    def offer(self, layer: int, fit: RidgeFit, predictions: Float32Array) -> None:
        """Keep ``predictions`` (n_test, n_voxels) where ``layer`` has the best pooled inner correlation so far."""
        c, q, y2 = fit.inner.c.sum(axis=0), fit.inner.q.sum(axis=0), fit.inner.y2.sum(axis=0)
        for unit, voxels in self.units.items():
            power = float(q[voxels].sum() * y2[voxels].sum())
            score = float(c[voxels].sum() / np.sqrt(power)) if power > 0 else 0.0
            if not self.inner[unit] or score > max(self.inner[unit]):
                self.chosen[unit] = layer
                self.predictions[:, voxels] = predictions[:, voxels]
            self.inner[unit].append(score)
