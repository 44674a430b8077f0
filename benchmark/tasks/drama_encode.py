# SPDX-License-Identifier: Apache-2.0
"""Encoding of films by one model: each level by itself layer by layer, then all levels at once as bands of one ridge."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.banded import BandedSearch, dirichlet_gammas
from voxelboard.benchmark.encoding.banded_columns import (
    ColumnBands,
    leave_band_out,
    refit_columns,
    search_columns,
    stack_columns,
)
from voxelboard.benchmark.encoding.designs import Problem, SegmentedDesign, primal_problem
from voxelboard.benchmark.encoding.residual import confound_basis, residualise
from voxelboard.benchmark.encoding.ridge import RidgeFit, fit_ridge
from voxelboard.benchmark.features.annotation_features import film_confounds
from voxelboard.benchmark.features.reduction import (
    Reduction,
    average_delays,
    delays_in_trs,
    fit_projector,
    scale_features,
)
from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.readers.base import Segment
from voxelboard.benchmark.stimuli.annotations import Run
from voxelboard.benchmark.tasks.encode import ConfoundFold, common_tr, project, within_training_range
from voxelboard.benchmark.tasks.fit_checks import EdgeCount, edge_count
from voxelboard.benchmark.tasks.preparation import NOISE_BRAIN, Cohort, PreparedFold

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
LevelFeatures = Mapping[str, Mapping[str, Float32Array]]  # level -> run -> (n_layers, n_trs, n_features)
LayerSink = Callable[[str, int, Float32Array], None]  # (level, layer, unique predictions of the test rows)
EncodingProgress = Callable[[str, int, int], None]  # (stage, done, total)


@dataclass(eq=False)
class DramaEncoding:
    """Predictions of the test rows by one model, (n_test_rows, n_voxels) float32 each.

    Attributes
    ----------
    raw, unique, joint : all levels as bands: as they are, what confounds cannot say, and that with the floor added.
    alone : level -> unique predictions of the level by itself, at its chosen layer.
    without : level -> unique predictions of all levels but this one, searched and fitted again.
    bands : level -> its part of ``unique``; the parts add up to it.
    chosen : (subject, level) -> layer with the best inner correlation over the scored voxels of the subject.
    inner : (subject, level) -> (n_layers,) those correlations.
    gammas : level -> (n_voxels,) weight of the band in the chosen draw.
    """

    raw: Float32Array
    unique: Float32Array
    joint: Float32Array
    alone: dict[str, Float32Array] = field(default_factory=dict)
    without: dict[str, Float32Array] = field(default_factory=dict)
    bands: dict[str, Float32Array] = field(default_factory=dict)
    chosen: dict[tuple[str, str], int] = field(default_factory=dict)
    inner: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    gammas: dict[str, Float32Array] = field(default_factory=dict)
    sd_ratios: list[float] = field(default_factory=list)
    edge_shares: dict[str, list[float]] = field(default_factory=dict)
    reliable_edges: dict[str, list[EdgeCount]] = field(default_factory=dict)


def fit_film_confounds(
    runs: Mapping[str, Run], levels: Sequence[str], cohort: Cohort, protocol: Protocol, device: torch.device
) -> ConfoundFold:
    """Confound designs at FIR delays, floor predictions and test projectors of the one fold of a drama."""
    (fold,) = cohort.folds
    tr = common_tr(runs)
    used = dict.fromkeys(segment.story for segment in (*fold.train, *fold.test))
    columns = within_training_range({name: film_confounds(runs[name], levels) for name in used}, fold.train)
    design = _segmented(columns, delays_in_trs(protocol.drama.confound_delays_s, tr), protocol, tr)
    scales = design.inverse_scales(fold.train)
    train, test = design.rows(fold.train, scales), design.rows(fold.test, scales)
    bases = tuple(
        confound_basis(
            design.rows([segment], scales), design.n_rows([segment]).tolist(), protocol.confounds.max_projection_share
        )
        for segment in fold.test
    )
    floor = _fit(primal_problem(train, test, device), fold, protocol)
    return ConfoundFold(train, test, floor.test_predictions, bases)


def level_problem(
    features: Mapping[str, NDArray[np.floating]],
    train: Sequence[Segment],
    test: Sequence[Segment],
    protocol: Protocol,
    tr: float,
    device: torch.device,
) -> Problem:
    """One level and layer as a regression problem: scaled and projected by training rows, delays averaged, filtered.

    Parameters
    ----------
    features : run -> (n_trs, n_features), undelayed.
    """
    policy = protocol.drama
    undelayed = _segmented(features, (0,), protocol, tr)
    scales = undelayed.inverse_scales(train)
    scaled = scale_features(features, scales)
    n_train = int(undelayed.n_rows(train).sum())
    n_components = min(policy.n_components, max(1, n_train // policy.trs_per_component))
    reduction = Reduction("pca", n_components)
    narrow = len(np.flatnonzero(scales)) <= n_components
    projector = fit_projector(undelayed.rows(train, scales), Reduction() if narrow else reduction)
    delays = delays_in_trs(policy.delays_s, tr)
    delayed = {name: average_delays(projector(table), delays) for name, table in scaled.items()}
    design = _segmented(delayed, (0,), protocol, tr)
    units = np.ones(design.n_features)
    return primal_problem(design.rows(train, units), design.rows(test, units), device)


def encode_drama(
    features: LevelFeatures,
    runs: Mapping[str, Run],
    cohort: Cohort,
    confounds: ConfoundFold,
    scored_rois: Sequence[str],
    protocol: Protocol,
    device: torch.device,
    *,
    leave_out: bool = True,
    each_layer: LayerSink | None = None,
    progress: EncodingProgress = lambda stage, done, total: None,
) -> DramaEncoding:
    """Fit every level and layer by itself, choose a layer per subject and level on training data, then fit all levels.

    Parameters
    ----------
    leave_out : also fit the model without each level (as many searches again as there are levels).

    Memory: one level and layer at a time, then the chosen layers of all levels, (n_train, n_columns) float64.
    """
    (fold,) = cohort.folds
    empty = np.zeros_like(confounds.floor)
    result = DramaEncoding(empty, empty.copy(), empty.copy())
    session = _Session(features, runs, cohort, fold, confounds, protocol, device, common_tr(runs))
    _fit_levels(session, result, scored_rois, each_layer, progress)
    groups: dict[tuple[int, ...], list[str]] = {}
    for unit in cohort.columns:
        groups.setdefault(tuple(result.chosen[unit, level] for level in features), []).append(unit)
    for done, (layers, units) in enumerate(groups.items()):
        progress("bands", done, len(groups))
        _fit_bands(session, result, dict(zip(features, layers, strict=True)), units, leave_out)
    result.joint = confounds.floor + result.joint
    return result


@dataclass(frozen=True, eq=False)
class _Session:
    features: LevelFeatures
    runs: Mapping[str, Run]
    cohort: Cohort
    fold: PreparedFold
    confounds: ConfoundFold
    protocol: Protocol
    device: torch.device
    tr: float

    def problem(self, level: str, layer: int) -> Problem:
        used = dict.fromkeys(segment.story for segment in (*self.fold.train, *self.fold.test))
        table = {name: self.features[level][name][layer] for name in used}
        return level_problem(table, self.fold.train, self.fold.test, self.protocol, self.tr, self.device)

    def residual(self, problem: Problem) -> tuple[Problem, float]:
        """What confounds cannot say of a level, and the test over training SD of that."""
        lambdas = self.protocol.confounds.relative_lambdas
        found = residualise(problem, self.confounds.train, self.confounds.test, self.fold.inner_folds, lambdas)
        return found.problem, found.sd_ratio

    def project(self, predictions: Float32Array) -> Float32Array:
        return project(predictions, self.confounds.bases)


def _fit_levels(
    session: _Session,
    result: DramaEncoding,
    scored_rois: Sequence[str],
    each_layer: LayerSink | None,
    progress: EncodingProgress,
) -> None:
    """Every level and layer by itself; fills ``alone``, ``chosen`` and ``inner``."""
    cohort = session.cohort
    scored = {unit: _scored(cohort, unit, scored_rois) for unit in cohort.columns}
    n_layers = {level: len(next(iter(tables.values()))) for level, tables in session.features.items()}
    done, total = 0, sum(n_layers.values())
    for level, layers in n_layers.items():
        result.alone[level] = np.zeros_like(result.unique)
        for layer in range(layers):
            problem, ratio = session.residual(session.problem(level, layer))
            fit = _fit(problem, session.fold, session.protocol)
            projected = session.project(fit.test_predictions)
            result.sd_ratios.append(ratio)
            for unit, voxels in scored.items():
                score = _pooled_inner(fit, voxels)
                before = result.inner.setdefault((unit, level), [])
                if not before or score > max(before):
                    result.chosen[unit, level] = layer
                    result.alone[level][:, cohort.columns[unit]] = projected[:, cohort.columns[unit]]
                before.append(score)
                result.edge_shares.setdefault(unit, []).append(float(fit.at_grid_edge[voxels].mean()))
                result.reliable_edges.setdefault(unit, []).append(edge_count(fit, voxels))
            if each_layer is not None:
                each_layer(level, layer, projected)
            done += 1
            progress("layers", done, total)


def _fit_bands(
    session: _Session, result: DramaEncoding, layers: Mapping[str, int], units: Sequence[str], leave_out: bool
) -> None:
    """All levels at the chosen layers, for the voxels of the units that chose them; the noise brain gets the raw row."""
    problems = {level: session.problem(level, layer) for level, layer in layers.items()}
    voxels = _columns(session.cohort, units)
    raw = stack_columns(problems).compressed()
    search, responses = _search(session, raw, voxels)
    result.raw[:, voxels] = refit_columns(raw, responses, search).total
    people = [unit for unit in units if unit != NOISE_BRAIN]
    if not people:
        return
    voxels = _columns(session.cohort, people)
    bands = stack_columns({level: session.residual(p)[0] for level, p in problems.items()}).compressed()
    search, responses = _search(session, bands, voxels)
    whole = refit_columns(bands, responses, search)
    result.unique[:, voxels] = session.project(whole.total)
    result.joint[:, voxels] = whole.total
    for b, level in enumerate(layers):
        for table in (result.bands, result.without):
            table.setdefault(level, np.zeros_like(result.unique))
        gammas = result.gammas.setdefault(level, np.zeros(session.cohort.n_voxels, dtype=np.float32))
        gammas[voxels] = whole.gammas[:, b]
        result.bands[level][:, voxels] = session.project(whole.bands[b])
        if leave_out and len(layers) > 1:
            rest = leave_band_out(bands, responses, session.fold.inner_folds, search, level)
            result.without[level][:, voxels] = session.project(rest.total)


def _search(
    session: _Session, bands: ColumnBands, voxels: NDArray[np.intp]
) -> tuple[BandedSearch, NDArray[np.float32]]:
    policy = session.protocol
    gammas = dirichlet_gammas(policy.drama.n_draws, len(bands.names), seed=policy.seed % 2**31)
    responses = session.fold.responses[:, voxels]
    search = search_columns(
        bands,
        responses,
        session.fold.inner_folds,
        gammas,
        policy.encoding.relative_alphas,
        selection=policy.encoding.alpha_selection,
    )
    return search, responses


def _columns(cohort: Cohort, units: Sequence[str]) -> NDArray[np.intp]:
    return np.concatenate([np.arange(cohort.n_voxels)[cohort.columns[unit]] for unit in units])


def _scored(cohort: Cohort, unit: str, scored_rois: Sequence[str]) -> NDArray[np.intp]:
    """The voxels on which a unit chooses its layers: those of scored ROIs; all of the noise brain's."""
    labels = cohort.rois[unit]
    wanted = np.ones(len(labels), dtype=bool) if unit == NOISE_BRAIN else np.isin(labels, list(scored_rois))
    found: NDArray[np.intp] = cohort.columns[unit].start + np.flatnonzero(wanted)
    return found


def _pooled_inner(fit: RidgeFit, voxels: NDArray[np.intp]) -> float:
    """Correlation pooled over folds and voxels, each fold at the alpha that the others chose."""
    c, q, y2 = (float(table[:, voxels].sum()) for table in (fit.inner.c, fit.inner.q, fit.inner.y2))
    return c / float(np.sqrt(q * y2)) if q * y2 > 0 else 0.0


def _segmented(
    features: Mapping[str, NDArray[np.floating]], delays: tuple[int, ...], protocol: Protocol, tr: float
) -> SegmentedDesign:
    policy = protocol.design
    return SegmentedDesign(
        features=dict(features),
        delays=delays,
        trim=policy.trim_trs,
        tr=tr,
        cutoff_s=policy.high_pass_s,
        constant_tolerance=policy.constant_tolerance,
    )


def _fit(problem: Problem, fold: PreparedFold, protocol: Protocol) -> RidgeFit:
    policy = protocol.encoding
    return fit_ridge(
        problem, fold.responses, fold.inner_folds, policy.relative_alphas, selection=policy.alpha_selection
    )
