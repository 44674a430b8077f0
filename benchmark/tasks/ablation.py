# SPDX-License-Identifier: Apache-2.0
"""Task ablation: what becomes of a model's alignment when the text that it reads loses its syntax or its words.

Presented: the stories of a narrative data set, as they were heard, and the test stories perturbed (stimuli.perturbations): words
of a class replaced by its tag, as many random words, other orders, word lists. Features and analysis: those of the task
narrative, fitted to intact stories; the fit then predicts the same responses from the perturbed text. Score: H_u of the intact
text is the headline; each condition is a facet with its own H_u and ``delta`` = H_u(intact) - H_u(condition), paired
over blocks, and where it has a control, ``beyond_control`` = delta - delta of the control: what the loss of this class
costs beyond the loss of as many words. A profile of a model, not a virtue.
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
from voxelboard.benchmark.statistics.scores import BlockStatistics
from voxelboard.benchmark.stimuli.perturbed_stories import perturb_story
from voxelboard.benchmark.submission import Submission, baseline_submissions
from voxelboard.benchmark.tasks.base import CellResult, MeasuredCell, RunContext, merged_checks
from voxelboard.benchmark.tasks.conditions import INTACT, condition_statistics, stories_tested
from voxelboard.benchmark.tasks.narrative import ModelFeatures, Narrative, held_out_responses
from voxelboard.benchmark.tasks.preparation import Cohort, cohorts
from voxelboard.benchmark.tasks.scoring import UNITS, HeldOutResponses, roi_influence, summarise
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
            found = _conditions(sources, features, data, subjects, context)
        for result in scored:
            responses = data.responses(result.subject)
            dataset = dataset_stamp(
                data, responses, n_train=result.n_train, n_test=result.n_test, n_repeats=result.n_repeats
            )
            result = _with_conditions(result, found[result.subject], data, context.protocol)
            yield MeasuredCell(dataset, stamp, replace(result, checks=merged_checks(result.checks, resolved)))


def _conditions(
    sources: Sources, features: Features, data: NarrativeData, subjects: Sequence[str], context: RunContext
) -> dict[str, dict[str, BlockStatistics]]:
    """Subject -> condition -> block statistics."""
    found: dict[str, dict[str, BlockStatistics]] = {}
    wanted = data.subjects if data.ceiling_kind == "inter_subject" else subjects
    for cohort in cohorts(data, wanted, context.protocol, context.settings.limit):
        tests = _tests(data, cohort, subjects)
        if not tests:
            continue
        perturbed = _perturbed_features(sources, data, stories_tested(cohort), context)
        context.progress("conditions", 0, 0)
        found |= condition_statistics(
            features, perturbed, data.stories, cohort, tests, context.protocol, context.device
        )
    return found


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
    result: CellResult, found: Mapping[str, BlockStatistics], data: NarrativeData, protocol: Protocol
) -> CellResult:
    """The result with a facet for each condition and ROI, and the statistics that they rest on."""
    influence = {name: roi_influence(stats, protocol.score) for name, stats in found.items()}
    facets: list[Facet] = []
    for condition in protocol.ablation.conditions:
        facets += _facets(condition, influence, data, protocol)
    arrays = result.arrays | {
        f"stats__condition_{name}": np.stack([stats.c, stats.q, stats.s], axis=-1)
        for name, stats in found.items()
        if name != INTACT
    }
    return replace(result, facets=tuple(facets), arrays=arrays)


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
