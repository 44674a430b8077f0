# SPDX-License-Identifier: Apache-2.0
"""The analyses of Nakagi et al. 2024 on features of one's own: what a researcher runs beside the board.

*mono*: ridge for each feature and layer, alphas on a fixed grid, chosen with the layer by the mean correlation of left-out
title folds. *banded*: all features at once, random search over band weights; the joint score, the split score and the
leave-one-out unique score of each feature. Each cell is a folder whose ``done_<tag>.json`` is written last, so that a run
that stops resumes and a second run does no work.

Responses are prepared as everywhere in this package (trimmed, high-passed by DCT, z-scored by run), not by the paper's
median filter; features are centred and not scaled, as there.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.encoding.banded import dirichlet_gammas
from voxelboard.benchmark.encoding.banded_columns import (
    banded_weights,
    leave_band_out,
    refit_columns,
    search_columns,
    stack_columns,
)
from voxelboard.benchmark.encoding.designs import Problem, SegmentedDesign, primal_problem
from voxelboard.benchmark.encoding.filters import high_pass
from voxelboard.benchmark.encoding.ridge import fit_ridge
from voxelboard.benchmark.errors import MissingPrerequisite
from voxelboard.benchmark.features.reduction import average_delays, delays_in_trs, fit_projector
from voxelboard.benchmark.features.store import FeatureStore
from voxelboard.benchmark.protocol import Protocol, hash_json
from voxelboard.benchmark.readers.drama_base import DramaData, PresentedRuns, check_title_folds
from voxelboard.benchmark.records import slug
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.statistics.fdr import benjamini_hochberg
from voxelboard.benchmark.statistics.partition import split_correlations, weight_components
from voxelboard.benchmark.statistics.permutation import block_permutation_test
from voxelboard.benchmark.statistics.scores import voxel_correlation
from voxelboard.benchmark.tasks.drama_scores import winning_level
from voxelboard.benchmark.tasks.encode import common_tr
from voxelboard.benchmark.tasks.film_config import AnalysisConfig, Feature
from voxelboard.benchmark.tasks.film_features import LayerTable, feature_key, feature_layers, load_layer
from voxelboard.benchmark.tasks.preparation import Cohort, cohorts

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
Progress = Callable[[str, int, int], None]
Draw = Callable[[NDArray[np.floating]], str]  # (n_voxels,) correlations -> an SVG picture

N_COMPONENTS = 10  # of the weights
# Raise it when the code below changes the numbers: finished cells are then run again.
STAGE_VERSION = 1


@dataclass(frozen=True)
class Analysis:
    """What an analysis runs with. ``base`` is the folder that paths of the config are relative to."""

    config: AnalysisConfig
    data: DramaData
    output: Path
    base: Path
    settings: Settings
    store: FeatureStore
    device: torch.device
    draw: Draw
    progress: Progress = lambda stage, done, total: None

    @property
    def protocol(self) -> Protocol:
        return self.settings.protocol

    def folder(self, subject: str, *parts: str) -> Path:
        """``output/<data>/<subject>/<regression>/...``."""
        return self.output.joinpath(slug(self.data.name), slug(subject), *map(slug, parts))


@dataclass(frozen=True)
class Finished:
    """One cell: its folder, its summary, and whether it was there already."""

    folder: Path
    summary: dict[str, Any]
    stored: bool


def analyse(analysis: Analysis) -> Iterator[Finished]:
    """Run every cell, subject by subject.

    Raises
    ------
    UserError, MissingPrerequisite
        for what a user can fix. Finished cells are kept.
    """
    config = analysis.config
    subjects = config.subjects or analysis.data.subjects
    for subject in subjects:
        cells = _mono_cells(analysis) if config.regression == "mono" else [_banded_cell(analysis, subject)]
        prepared: Cohort | None = None
        for done, cell in enumerate(cells):
            analysis.progress(f"{subject}, {'/'.join(cell.parts)}", done, len(cells))
            folder = analysis.folder(subject, config.regression, *cell.parts)
            key = hash_json({"version": STAGE_VERSION, "subject": subject, **cell.key})
            if (summary := _stored(folder, cell.tag, key)) is not None:
                yield Finished(folder, summary, stored=True)
                continue
            prepared = prepared or _prepare(analysis, subject)
            results = (_run_mono if config.regression == "mono" else _run_banded)(analysis, prepared, subject, cell)
            yield Finished(folder, _write(folder, results, cell.tag, key, analysis), stored=False)


@dataclass(frozen=True)
class _Cell:
    """``layers``: feature -> layer. ``parts`` name its folder, ``tag`` its files."""

    layers: tuple[tuple[Feature, int], ...]
    parts: tuple[str, ...]
    tag: str
    key: dict[str, Any]


def _mono_cells(analysis: Analysis) -> list[_Cell]:
    cells = []
    for feature in analysis.config.features:
        layers = feature.layers
        numbers = layers if isinstance(layers, tuple) else tuple(range(feature_layers(feature, analysis)))
        cells += [_cell(analysis, ((feature, layer),), (feature.name, f"layer{layer}")) for layer in numbers]
    return cells


def _banded_cell(analysis: Analysis, subject: str) -> _Cell:
    chosen = []
    for feature in analysis.config.features:
        layer = feature.layers[0] if isinstance(feature.layers, tuple) else best_layer(analysis, subject, feature)
        chosen.append((feature, layer))
    name = "+".join(f"{feature.name}{layer}" for feature, layer in chosen)
    return _cell(analysis, tuple(chosen), (name,))


def _cell(analysis: Analysis, layers: tuple[tuple[Feature, int], ...], parts: tuple[str, ...]) -> _Cell:
    config = analysis.config
    constants = config.model_dump(mode="json", exclude={"features", "subjects"})
    key = {
        "config": constants,
        "features": [[feature_key(feature, analysis), layer] for feature, layer in layers],
        "data": [analysis.data.name, analysis.data.version],
    }
    return _Cell(layers, parts, _tag(config, tuple(feature for feature, _ in layers)), key)


def _tag(config: AnalysisConfig, features: Sequence[Feature]) -> str:
    """As in file names: the reduction, and the half of the annotators where there is one."""
    halves = dict.fromkeys(feature.annotators for feature in features if feature.annotators != "all")
    return config.reduce.tag + "".join(f"_split{half}" for half in halves)


def done_name(tag: str) -> str:
    """The file that says that a cell is whole."""
    return f"done_{tag}.json"


def best_layer(analysis: Analysis, subject: str, feature: Feature) -> int:
    """The layer of a mono analysis in the same output with the best cross-validation over its top voxels.

    Raises
    ------
    MissingPrerequisite
        when there is none.
    """
    scores, done = {}, done_name(_tag(analysis.config, (feature,)))
    for path in sorted(analysis.folder(subject, "mono", feature.name).glob(f"layer*/{done}")):
        scores[int(path.parent.name.removeprefix("layer"))] = json.loads(path.read_text())["cv_top"]
    if not scores:
        raise MissingPrerequisite(
            f"layers: best of {feature.name}, but there is no mono analysis of it in {analysis.output}",
            "run the same features with regression: mono first",
        )
    return max(scores, key=lambda layer: (scores[layer], -layer))


def _prepare(analysis: Analysis, subject: str) -> Cohort:
    data = analysis.data
    presented = PresentedRuns(data)
    test = presented.split.test_segments
    (cohort,) = cohorts(
        presented,
        (subject,),
        analysis.protocol,
        inner_folds=lambda train: check_title_folds(data.runs, train, test, data.inner_folds),
    )
    return cohort


def film_problem(features: LayerTable, analysis: Analysis, cohort: Cohort) -> Problem:
    """Centre, project (fitted on training rows), delay, trim and filter; ``features`` is run -> (n_trs, n_features)."""
    (fold,) = cohort.folds
    config, tr = analysis.config, common_tr(analysis.data.runs)
    policy = analysis.protocol.design
    train = np.concatenate([features[s.story][s.start : s.stop] for s in fold.train])
    projector = fit_projector(train, config.reduce.reduction())
    delays = delays_in_trs(config.delays.seconds, tr)
    used = dict.fromkeys(segment.story for segment in (*fold.train, *fold.test))
    tables = {name: projector(features[name]) for name in used}
    if config.delays.kind == "averaged":
        tables, delays = {name: average_delays(table, delays) for name, table in tables.items()}, (0,)
    design = SegmentedDesign(features=tables, delays=delays, trim=policy.trim_trs, tr=tr, cutoff_s=policy.high_pass_s)
    units = np.ones(design.n_features)
    return primal_problem(design.rows(fold.train, units), design.rows(fold.test, units), analysis.device)


def _run_mono(analysis: Analysis, cohort: Cohort, subject: str, cell: _Cell) -> dict[str, Any]:
    ((feature, layer),) = cell.layers
    problem = film_problem(load_layer(feature, layer, analysis), analysis, cohort)
    responses = _responses(cohort, subject)
    unit = problem.mean_row_power or 1.0
    fit = fit_ridge(
        problem,
        responses,
        cohort.folds[0].inner_folds,
        [alpha / unit for alpha in _grid(analysis.config)],
        selection="correlation",
        weights=True,
    )
    assert fit.weights is not None
    results = _tested(analysis, cohort, subject, fit.test_predictions)
    results |= {"cv_cc": fit.cv_scores, "alphas": fit.alphas, "coef": fit.weights}
    return _finished(analysis, results, fit.test_predictions, lambda: problem.train.cpu().numpy() @ fit.weights)


def _run_banded(analysis: Analysis, cohort: Cohort, subject: str, cell: _Cell) -> dict[str, Any]:
    config = analysis.config
    problems = {f.name: film_problem(load_layer(f, layer, analysis), analysis, cohort) for f, layer in cell.layers}
    columns = stack_columns(problems, normalise=False)
    responses, folds = _responses(cohort, subject), cohort.folds[0].inner_folds
    gammas = dirichlet_gammas(config.n_iter, len(problems), seed=config.seed)
    search = search_columns(columns, responses, folds, gammas, _grid(config), selection="correlation")
    whole = refit_columns(columns, responses, search)
    results = _tested(analysis, cohort, subject, whole.total)
    draw, _ = search.best()
    coef = banded_weights(columns, responses, search)
    results |= {"cv_cc": search.cv_scores[draw, np.arange(len(draw))], "alphas": whole.alphas, "coef": coef}
    truth = _test_responses(cohort, subject)
    splits = split_correlations({name: whole.bands[b] for b, name in enumerate(problems)}, truth)
    unique = {}
    for b, name in enumerate(problems):
        rest = leave_band_out(columns, responses, folds, search, name, selection="correlation")
        unique[name] = results["cc"] - voxel_correlation(_unit_scale(rest.total), truth)
        results |= {
            f"cc_split_{name}": splits[name],
            f"cc_unique_{name}": unique[name],
            f"gamma_{name}": whole.gammas[:, b],
        }
    results["winner"] = winning_level(unique, results["pvalues_corrected"] <= config.permutation.fdr)
    return _finished(analysis, results, whole.total, lambda: columns.train.cpu().numpy() @ coef)


def _tested(analysis: Analysis, cohort: Cohort, subject: str, predictions: Float32Array) -> dict[str, Any]:
    """``cc`` and ``pvalues_corrected`` (Benjamini-Hochberg) of the test rows."""
    policy, tr = analysis.config.permutation, common_tr(analysis.data.runs)
    truth = _test_responses(cohort, subject)
    runs = cohort.folds[0].test_responses[subject]
    lengths = [run.shape[1] for run in runs]
    filtered = np.concatenate(
        [
            high_pass(part, tr, analysis.protocol.design.high_pass_s)
            for part in np.split(_unit_scale(predictions), np.cumsum(lengths)[:-1])
        ]
    )
    test = block_permutation_test(
        filtered,
        truth,
        tr=tr,
        n_draws=policy.n_draws,
        seed=analysis.config.seed,
        block_trs=policy.block_trs,
        segments=np.repeat(np.arange(len(lengths)), lengths),
    )
    p = test.p if policy.kind == "block" else np.clip(test.gaussian_p, np.finfo(np.float64).tiny, 1.0)
    return {"cc": test.observed, "pvalues": p, "pvalues_corrected": benjamini_hochberg(p, policy.fdr)[1]}


def _finished(
    analysis: Analysis, results: dict[str, Any], test_predictions: Float32Array, train: Callable[[], NDArray[Any]]
) -> dict[str, Any]:
    """With the components of the weights over the top voxels, and the predictions where they were asked for."""
    top = np.argsort(-results["cv_cc"], kind="stable")[: analysis.config.top_voxels]
    axes, ratios = weight_components(results["coef"][:, top], N_COMPONENTS)
    results |= {"weights_pca": axes, "weights_pca_ratio": ratios, "top_voxels": top}
    if analysis.config.save_predictions:
        results |= {"preds_val": test_predictions, "preds_trn": train().astype(np.float32)}
    return results


def _write(folder: Path, results: Mapping[str, Any], tag: str, key: str, analysis: Analysis) -> dict[str, Any]:
    """One ``<name>_<tag>.npy`` a result and the histogram; the summary, which makes the cell whole, last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / done_name(tag)).unlink(missing_ok=True)
    for name, array in results.items():
        table = np.asarray(array)
        table = table.astype(np.float32) if table.dtype == np.float64 else table
        replace_file(folder / f"{name}_{tag}.npy", partial(_save, table))
    replace_file(folder / f"dist_{tag}.svg", lambda file: file.write(analysis.draw(results["cc"]).encode()))
    summary = {
        "key": key,
        "cv_top": float(np.mean(results["cv_cc"][results["top_voxels"]])),
        "cc_mean": float(np.mean(results["cc"])),
        "cc_top": float(np.mean(results["cc"][results["top_voxels"]])),
        "n_voxels": len(results["cc"]),
        "n_significant": int((results["pvalues_corrected"] <= analysis.config.permutation.fdr).sum()),
    }
    replace_file(folder / done_name(tag), lambda file: file.write((json.dumps(summary, indent=2) + "\n").encode()))
    return summary


def _save(table: NDArray[Any], file: IO[bytes]) -> None:
    np.save(file, table, allow_pickle=False)


def _stored(folder: Path, tag: str, key: str) -> dict[str, Any] | None:
    """The summary of a finished cell with this key."""
    try:
        summary: dict[str, Any] = json.loads((folder / done_name(tag)).read_text())
    except (OSError, ValueError):
        return None
    return summary if summary.get("key") == key else None


def _unit_scale(predictions: Float32Array) -> FloatArray:
    """Predictions of unit sd: at alphas up to 1e12 they are tiny, which says nothing about their correlation."""
    spread = predictions.std(axis=0, dtype=np.float64)
    scaled: FloatArray = predictions / np.where(spread > 0, spread, 1.0)
    return scaled


def _grid(config: AnalysisConfig) -> list[float]:
    grid: list[float] = np.logspace(config.alphas.log10_first, config.alphas.log10_last, config.alphas.n).tolist()
    return grid


def _responses(cohort: Cohort, subject: str) -> Float32Array:
    """(n_train_rows, n_voxels) of the subject, without the noise brain."""
    return cohort.folds[0].responses[:, cohort.columns[subject]]


def _test_responses(cohort: Cohort, subject: str) -> Float32Array:
    runs: Sequence[Float32Array] = cohort.folds[0].test_responses[subject]
    return np.concatenate([run.mean(axis=0, dtype=np.float64) for run in runs]).astype(np.float32)
