# SPDX-License-Identifier: Apache-2.0
"""Task ablation: what becomes of a model's alignment when the text that it reads loses its syntax or its words.

Presented: the stories of a narrative data set, as they were heard, and the test stories perturbed (stimuli.perturbations): words
of a class replaced by its tag, as many random words, other orders, word lists. Features and analysis: those of the task
narrative, fitted to intact stories; the fit then predicts the same responses from the perturbed text. Score: H_u of the intact
text is the headline; each condition is a facet with its own H_u and ``delta`` = H_u(intact) - H_u(condition), paired
over blocks, and where it has a control, ``beyond_control`` = delta - delta of the control: what the loss of this class
costs beyond the loss of as many words. Two conditions more take a property out of the representation instead of the
text (Oota et al. 2023). A profile of a model, not a virtue.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.protocol import Protocol, TaskName
from voxelboard.benchmark.readers.base import DatasetFacts, NarrativeData
from voxelboard.benchmark.records import Estimate, Facet
from voxelboard.benchmark.sources import Features, Sources, open_sources
from voxelboard.benchmark.stamps import dataset_stamp, model_stamp
from voxelboard.benchmark.statistics.intervals import single_subject_interval
from voxelboard.benchmark.stimuli.perturbed_stories import perturb_story
from voxelboard.benchmark.submission import Submission, baseline_submissions
from voxelboard.benchmark.tasks.base import CellResult, MeasuredCell, RunContext, merged_checks
from voxelboard.benchmark.tasks.cohort_scores import ModelFeatures
from voxelboard.benchmark.tasks.conditions import (
    INTACT,
    Chosen,
    ConditionScores,
    Probe,
    Scores,
    condition_statistics,
    removal_conditions,
    removal_statistics,
    stories_tested,
)
from voxelboard.benchmark.tasks.held_out import held_out_responses
from voxelboard.benchmark.tasks.narrative import Narrative
from voxelboard.benchmark.tasks.preparation import Cohort, cohorts
from voxelboard.benchmark.tasks.recompute import CONDITION, condition_table
from voxelboard.benchmark.tasks.scoring import UNITS, HeldOutResponses, roi_influence, summarise, to_estimate
from voxelboard.benchmark.tasks.story_work import ablation_work
from voxelboard.benchmark.tasks.work import ModelSize, Work

FloatArray = NDArray[np.float64]
Influence = Mapping[int, FloatArray]  # ROI number -> (n_blocks,)

AXIS = "condition"
CONTROL = "random-"
# Rows of the harness to which a perturbed text is another one, and two that show that nothing comes from nothing.
ROWS = ("constant", "context-noise", "random-word-vectors", "static", "oracle")


class Ablation:
    """The task: name, version, and what it does with a model and a data set."""

    name: TaskName = "ablation"
    version = 1
    default_data = "simulated-ablation"

    def mandatory_rows(self, data: DatasetFacts) -> list[Submission]:
        """Those of the task narrative that read words."""
        rows = baseline_submissions(simulated=data.kind == "simulated", static_vectors=data.has_static_vectors)
        return [row for row in rows if row.label.removeprefix("voxelboard/") in ROWS]

    def work(
        self, data: NarrativeData, subjects: Sequence[str], size: ModelSize, protocol: Protocol, *, on_gpu: bool
    ) -> Work:
        """See :func:`ablation_work`."""
        return ablation_work(data, subjects, size, protocol, on_gpu=on_gpu)

    def prepare(self, submission: Submission, data: NarrativeData, context: RunContext) -> None:
        """Read the stories with the model and its untrained twins, and the perturbed test stories, into the store."""
        sources = open_sources(submission, data, context.settings, context.store, context.device, context.progress)
        sources.features()
        for twin in sources.twins.values():
            twin()
        tested = dict.fromkeys(segment.story for segment in data.split.test_segments)
        _perturbed_features(sources, data, tuple(tested), context)

    def measure(
        self, submission: Submission, data: NarrativeData, subjects: Sequence[str], context: RunContext
    ) -> Iterator[MeasuredCell]:
        """Score the intact stories as the task narrative does, then every condition.

        Raises
        ------
        UserError, InvalidNumbers
            as the task narrative; for a row that reads no words.
        """
        settings, stopwatch, progress = context.settings, context.stopwatch, context.progress
        with stopwatch.stage("model"):
            progress("model", 0, 0)
            sources = open_sources(submission, data, settings, context.store, context.device, progress)
        with stopwatch.stage("receipt"):
            progress("receipt", 0, 0)
            receipt = sources.receipt()
        with stopwatch.stage("features"):
            features = sources.features()
            twins = {seed: twin() for seed, twin in sources.twins.items()}
        stamp = model_stamp(submission, sources.identity, sources.n_layers, sources.n_features)
        resolved = {**receipt.fields, **({"alarms": ()} if submission.is_baseline else {})}
        model = ModelFeatures(features, twins)
        intact = Narrative().run(
            data,
            subjects,
            model,
            context.protocol,
            context.device,
            n_train_segments=settings.limit,
            progress=progress,
        )
        scored = list(stopwatch.each("encoding and scores", intact))
        with stopwatch.stage("conditions"):
            chosen = {r.subject: {roi: profile.chosen for roi, profile in r.layers.items()} for r in scored}
            found, probes = _conditions(sources, features, data, chosen, context)
        for result in scored:
            responses = data.responses(result.subject)
            dataset = dataset_stamp(
                data, responses, n_train=result.n_train, n_test=result.n_test, n_repeats=result.n_repeats
            )
            result = _with_conditions(result, found[result.subject], probes[result.subject], data, context.protocol)
            yield MeasuredCell(dataset, stamp, replace(result, checks=merged_checks(result.checks, resolved)))


def _conditions(
    sources: Sources, features: Features, data: NarrativeData, chosen: Chosen, context: RunContext
) -> tuple[Scores, dict[str, dict[str, Probe]]]:
    """Scores of every condition, and subject -> condition -> what probes find of the property that was removed."""
    found: Scores = {}
    probes: dict[str, dict[str, Probe]] = {}
    wanted = data.subjects if data.ceiling_kind == "inter_subject" else tuple(chosen)
    for cohort in cohorts(data, wanted, context.protocol, context.settings.limit):
        tests = _tests(data, cohort, tuple(chosen))
        if not tests:
            continue
        perturbed = _perturbed_features(sources, data, stories_tested(cohort), context)
        layers = {subject: chosen[subject] for subject in tests}
        context.progress("conditions", 0, 0)
        of_texts = condition_statistics(
            features, perturbed, data.stories, cohort, tests, layers, context.protocol, context.device
        )
        context.progress("removal of properties", 0, 0)
        of_removals, of_probes = removal_statistics(
            features, data.stories, cohort, tests, layers, context.protocol, context.device
        )
        for subject in tests:
            found[subject] = of_texts[subject] | of_removals[subject]
            probes[subject] = of_probes
    return found, probes


def _tests(data: NarrativeData, cohort: Cohort, subjects: Sequence[str]) -> dict[str, HeldOutResponses]:
    return {subject: held_out_responses(data, cohort, subject) for subject in cohort.subjects if subject in subjects}


def _perturbed_features(
    sources: Sources, data: NarrativeData, tested: Sequence[str], context: RunContext
) -> dict[str, Features]:
    policy, seed = context.protocol.ablation, context.protocol.seed
    read = sources.read
    if read is None:
        raise UserError(
            "this row reads no words, so no text can be perturbed for it",
            f"rows of this task: {', '.join(f'voxelboard/{row}' for row in ROWS)}",
        )
    perturbed = {}
    for done, condition in enumerate(policy.conditions):
        context.progress(f"reading, {condition}", done, len(policy.conditions))
        stories = {name: perturb_story(data.stories[name], condition, policy.window_words, seed) for name in tested}
        perturbed[condition] = read(stories)
    return perturbed


def _with_conditions(
    result: CellResult,
    found: Mapping[str, ConditionScores],
    probes: Mapping[str, Probe],
    data: NarrativeData,
    protocol: Protocol,
) -> CellResult:
    """The result with a facet for each condition and ROI, and the statistics and voxels that they rest on."""
    influence = {name: roi_influence(scores.stats, protocol.score) for name, scores in found.items()}
    facets: list[Facet] = []
    for condition in (*protocol.ablation.conditions, *removal_conditions(protocol)):
        overall, *by_roi = _facets(condition, influence, data, protocol)
        if condition in probes:
            overall = replace(overall, scores=overall.scores | _probe_scores(probes[condition], protocol))
        facets += [overall, *by_roi]
    arrays = dict(result.arrays)
    for name, scored in found.items():
        if name != INTACT:
            arrays[f"{CONDITION}{name}"] = condition_table(scored.stats, protocol.score)
            arrays[f"voxel_delta__{name}"] = (found[INTACT].voxel_r - scored.voxel_r).astype(np.float16)
    return replace(result, facets=tuple(facets), arrays=arrays)


def _probe_scores(probe: Probe, protocol: Protocol) -> dict[str, Estimate]:
    """Accuracy of a linear probe before and after removal, and above what needs no probe."""
    size, confidence = protocol.score.inference_block_trs, protocol.score.confidence
    tables = {
        "probe_intact": probe.intact,
        "probe_removed": probe.removed,
        "probe_chance": probe.chance,
        "probe_removed_above_chance": probe.removed - probe.chance,
    }
    n_blocks = max(2, len(probe.chance) // size)
    return {
        name: to_estimate(
            single_subject_interval(
                np.array([part.mean() for part in np.array_split(table, n_blocks)]), confidence=confidence
            ),
            f"linear probe of test rows, mean of blocks of {size} TRs, t",
            "accuracy",
        )
        for name, table in tables.items()
    }


def _facets(
    condition: str, influence: Mapping[str, Influence], data: NarrativeData, protocol: Protocol
) -> Iterator[Facet]:
    policy, unit = protocol.score, UNITS[data.ceiling_kind]
    blocks = f"{policy.inference_block_trs}-TR block influence, t"
    delta = _difference(influence[INTACT], influence[condition])
    tables: dict[str, tuple[Influence, str]] = {
        "unique": (influence[condition], f"H_u of the perturbed text, {blocks}"),
        "delta": (delta, f"H_u(intact) - H_u({condition}), paired, {blocks}"),
    }
    control = CONTROL + condition
    if control in influence:
        of_control = _difference(influence[INTACT], influence[control])
        tables["beyond_control"] = (_difference(delta, of_control), f"delta - delta of {control}, paired, {blocks}")
    overall: dict[str, Estimate] = {}
    by_roi: dict[str, dict[str, Estimate]] = {roi: {} for roi in data.scored_rois}
    for name, (table, estimator) in tables.items():
        overall[name], rois = summarise(table, data.scored_rois, estimator, unit, policy.confidence)
        for roi, estimate in rois.items():
            by_roi[roi][name] = estimate
    yield Facet(axis=AXIS, value=condition, scores=overall)
    for roi, scores in by_roi.items():
        yield Facet(axis=AXIS, value=condition, roi=roi, scores=scores)


def _difference(one: Influence, other: Influence) -> Influence:
    return {roi: values - other[roi] for roi, values in one.items()}
