# SPDX-License-Identifier: Apache-2.0
"""Attribution methods as encoding features, each against the activations of the same words, and layers against regions.

Every method is encoded like the states of a model: raw, and beyond the confounds (acoustics and word rate among them).
Methods with layers have their layer chosen by the same inner cross-validation, for each region as for each voxel.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.ridge import RidgeFit
from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.features.attributions import Attributions, attribution_features, refusals
from voxelboard.benchmark.features.methods import METHODS, choose_methods
from voxelboard.benchmark.models.language import load_language_model
from voxelboard.benchmark.protocol import Protocol, hash_json
from voxelboard.benchmark.readers.base import RoiOrder
from voxelboard.benchmark.record_stamps import AttributionStamp
from voxelboard.benchmark.records import Facet
from voxelboard.benchmark.statistics.hierarchy import InnerProducts
from voxelboard.benchmark.statistics.scores import BlockStatistics, FloatArray, concatenate
from voxelboard.benchmark.stimuli.stories import Story
from voxelboard.benchmark.submission import Submission, model_spec
from voxelboard.benchmark.tasks.attribution_facets import (
    HierarchyInputs,
    MethodScores,
    hierarchy_facets,
    layer_facets,
    method_facets,
    refused_facet,
    score_method,
)
from voxelboard.benchmark.tasks.base import Arrays, CellResult, RunContext, StageProgress, merged_checks
from voxelboard.benchmark.tasks.encode import ConfoundFold, Encoding, Features, encode
from voxelboard.benchmark.tasks.preparation import Cohort
from voxelboard.benchmark.tasks.scoring import HeldOutResponses, by_roi, equalise, roi_statistics

Float32Array = NDArray[np.float32]
Explain = Callable[[Mapping[str, Story]], Attributions]


@dataclass(frozen=True, eq=False)
class AttributionResult:
    """What one subject's record says of the attribution methods."""

    facets: tuple[Facet, ...]
    arrays: Arrays
    stamp: AttributionStamp


def open_explainer(submission: Submission, context: RunContext) -> Explain:
    """Load the language model of a submission with its head; the stories are explained when asked for.

    Raises
    ------
    UserError, MissingPrerequisite
        as :func:`load_language_model`, and for a planted model, which has no weights.
    """
    settings = context.settings
    if submission.model.source == "simulated":
        raise UserError(
            f"{submission.label} is a model with planted truth: it has no weights, so nothing to explain",
            "leave --features out, or name a causal language model with -m",
        )
    methods = choose_methods(settings.features)
    with context.stopwatch.stage("model"):
        lm = load_language_model(
            model_spec(submission),
            device=context.device,
            batch_size=settings.batch_size,
            offline=settings.offline,
            allow_remote_code=settings.allow_remote_code,
        )
    explicit = [name for name in methods if name in settings.features]
    refused = refusals(lm, explicit, context.protocol.attribution)
    if refused:
        given = [name for name in METHODS if name not in refusals(lm, tuple(METHODS), context.protocol.attribution)]
        raise UserError("; ".join(refused.values()), f"ask for others: --features {','.join(given)}")

    def explain(stories: Mapping[str, Story]) -> Attributions:
        with context.stopwatch.stage("attributions"):
            return attribution_features(lm, stories, methods, context.protocol, context.store, context.progress)

    return explain


def with_attributions(result: CellResult, own: AttributionResult) -> CellResult:
    """A subject's scores with those of the attribution methods beside them; none of the scores changes."""
    checks = result.checks
    if own.stamp.completeness_missed:
        tolerance = own.stamp.constants["completeness_tolerance"]
        alarm = (
            f"path attributions of {own.stamp.completeness_missed} of {own.stamp.n_words} words miss their sum by more "
            f"than {tolerance:g} of it (worst {own.stamp.completeness_worst:.1e})"
        )
        checks = merged_checks(checks, {"alarms": (*checks.alarms, alarm)})
    return replace(
        result,
        facets=(*result.facets, *own.facets),
        arrays={**result.arrays, **own.arrays},
        attribution=own.stamp,
        checks=checks,
    )


@dataclass(frozen=True, eq=False)
class _Encoded:
    """One method, encoded for a cohort.

    Attributes
    ----------
    inner : what inner cross-validation says of each layer and voxel.
    preferred : one (n_test_rows, n_voxels) array a fold, each voxel from the layer that this fold's training data prefer.
    profiles : subject -> block statistics of the unique predictions of every layer, ROIs as units.
    """

    encoding: Encoding
    inner: InnerProducts
    preferred: Sequence[Float32Array]
    profiles: Mapping[str, Sequence[BlockStatistics]]


def attribution_results(
    explain: Explain,
    stories: Mapping[str, Story],
    cohort: Cohort,
    tests: Mapping[str, HeldOutResponses],
    confounds: tuple[ConfoundFold, ...],
    roi_order: RoiOrder,
    protocol: Protocol,
    device: torch.device,
    progress: StageProgress,
) -> dict[str, AttributionResult]:
    """Encode every method for a cohort and say what it explains; subject -> result, for the subjects of ``tests``.

    Parameters
    ----------
    explain : gives the attributions of some stories; only those of this cohort are asked for.
    tests : subject -> its held-out responses of all folds.
    roi_order : regions from early to late, for the hierarchy; empty where the data set gives none.
    """
    used = dict.fromkeys(s.story for fold in cohort.folds for s in (*fold.train, *fold.test))
    found = explain({name: stories[name] for name in used})
    magnitudes = layer_magnitudes(found.completeness)
    stamp = attribution_stamp(found, [stories[name] for name in used], protocol)
    scores: dict[str, dict[str, MethodScores]] = {subject: {} for subject in tests}
    facets: dict[str, list[Facet]] = {subject: [] for subject in tests}
    arrays: dict[str, Arrays] = {subject: {} for subject in tests}
    for done, (method, features) in enumerate(found.features.items()):
        progress("attribution methods", done, len(found.features))
        encoded = _encode(features, stories, cohort, tests, confounds, protocol, device)
        for subject, test in tests.items():
            own = cohort.columns[subject]
            predictions = {row: [fold[:, own] for fold in folds] for row, folds in encoded.encoding.predictions.items()}
            predictions["floor"] = [confound.floor[:, own] for confound in confounds]
            result = score_method(predictions, test, protocol.score)
            scores[subject][method] = result
            facets[subject] += method_facets(method, result, scores[subject]["activations"], test, protocol.score)
            arrays[subject][f"facet_stats__{method}"] = result.table
            first = METHODS[method].first_layer
            if first is None:
                continue
            profile = encoded.profiles[subject]
            facets[subject] += layer_facets(method, first, profile, test, protocol.score)
            preferred = roi_statistics(
                by_roi([fold[:, own] for fold in encoded.preferred], test.rois), test, protocol.score
            )
            inputs = HierarchyInputs(
                profile, preferred, encoded.inner.of(own), magnitudes if method == "activations" else None
            )
            listed, layers = hierarchy_facets(method, inputs, test, roi_order, protocol)
            facets[subject] += listed
            arrays[subject][f"preferred_layer__{method}"] = layers
    if magnitudes is not None:
        for subject in tests:
            arrays[subject]["layer_magnitude__conductance"] = magnitudes
    refused = [refused_facet(method, reason, protocol.score) for method, reason in found.refused.items()]
    return {subject: AttributionResult((*facets[subject], *refused), arrays[subject], stamp) for subject in tests}


def _encode(
    features: Features,
    stories: Mapping[str, Story],
    cohort: Cohort,
    tests: Mapping[str, HeldOutResponses],
    confounds: tuple[ConfoundFold, ...],
    protocol: Protocol,
    device: torch.device,
) -> _Encoded:
    """Encode a method; of layers that are not chosen only statistics stay in memory."""
    n_layers = len(next(iter(features.values())))
    n_inner = max(int(fold.inner_folds.max()) + 1 for fold in cohort.folds)
    inner = InnerProducts.empty(n_layers, n_inner, cohort.n_voxels)
    best: FloatArray = np.zeros(0)
    preferred: list[Float32Array] = []
    tables: dict[str, dict[int, list[BlockStatistics]]] = {subject: {} for subject in tests}

    def each_fit(fold: int, layer: int, fit: RidgeFit, predictions: Float32Array) -> None:
        """Keep the predictions of the best layer so far for every voxel, and the statistics of each layer by subject."""
        nonlocal best
        c, q, y2 = fit.inner.c, fit.inner.q, fit.inner.y2
        inner.add(layer, c, q, y2)
        power = q.sum(axis=0) * y2.sum(axis=0)
        r = np.divide(c.sum(axis=0), np.sqrt(power), out=np.zeros(len(power)), where=power > 0)
        if layer == 0:
            best = r
            preferred.append(predictions.copy())
        else:
            better = r > best
            preferred[fold][:, better] = predictions[:, better]
            best = np.where(better, r, best)
        for subject, test in tests.items():
            own = predictions[:, cohort.columns[subject]]
            part = _of_fold(test, cohort, fold)
            scaled = own if len(cohort.folds) == 1 else equalise(own, test.rois)
            tables[subject].setdefault(layer, []).append(roi_statistics(scaled, part, protocol.score))

    encoding = encode(features, stories, cohort, confounds, protocol, device, each_fit=each_fit)
    profiles = {subject: [concatenate(layers[layer]) for layer in sorted(layers)] for subject, layers in tables.items()}
    return _Encoded(encoding, inner, preferred, profiles)


def _of_fold(test: HeldOutResponses, cohort: Cohort, fold: int) -> HeldOutResponses:
    """The held-out responses of one fold."""
    edges = np.cumsum([0, *(len(each.test) for each in cohort.folds)])
    part = slice(int(edges[fold]), int(edges[fold + 1]))
    others = None if test.others is None else test.others[part]
    return replace(test, segments=test.segments[part], others=others)


def layer_magnitudes(completeness: Mapping[str, Float32Array]) -> FloatArray | None:
    """(n_layers,) mean over words of the summed absolute conductance, in the unit of the score; None without conductance."""
    if not completeness:
        return None
    magnitude: FloatArray = np.concatenate([table[1:, :, 2] for table in completeness.values()], axis=1).mean(
        axis=1, dtype=np.float64
    )
    return magnitude


def attribution_stamp(found: Attributions, stories: Sequence[Story], protocol: Protocol) -> AttributionStamp:
    """What was computed, under which constants, and how far path sums are from what they must add up to."""
    constants = protocol.constants()["attribution"]
    worst = missed = None
    if found.completeness:
        errors = np.concatenate([np.abs(table[:, :, 0]).max(axis=0) for table in found.completeness.values()])
        worst, missed = float(errors.max()), int((errors > protocol.attribution.completeness_tolerance).sum())
    return AttributionStamp(
        hash=hash_json(constants),
        constants=constants,
        methods=tuple(found.features),
        refused=dict(found.refused),
        n_words=sum(story.n_words for story in stories),
        completeness_worst=worst,
        completeness_missed=missed,
    )
