# SPDX-License-Identifier: Apache-2.0
"""Task narrative: predict the fMRI of people who listen to stories from a model's states of the words that they hear.

Presented: the stories of a data set, each word with the context that the protocol fixes. Features: the states of every
layer at the TRs. Analysis: ridge with FIR delays, whole segments left out, alpha and layer chosen inside the training
segments, once with the features as they are and once with what confounds cannot say (statistics.md 2.3). Score: H_u,
the noise-corrected share of the explainable signal, and beside it the floor, the untrained twin and the ceiling.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.protocol import Protocol, TaskName
from voxelboard.benchmark.readers.base import DatasetFacts, NarrativeData, one_fold
from voxelboard.benchmark.sources import open_sources, static_features
from voxelboard.benchmark.stamps import dataset_stamp, model_stamp
from voxelboard.benchmark.statistics.scores import BlockStatistics
from voxelboard.benchmark.submission import Submission, baseline_submissions
from voxelboard.benchmark.tasks.attribution import (
    open_explainer,
)
from voxelboard.benchmark.tasks.base import (
    CellResult,
    MeasuredCell,
    RunContext,
    StageProgress,
    merged_checks,
)
from voxelboard.benchmark.tasks.cohort_scores import ModelFeatures, score_cohort
from voxelboard.benchmark.tasks.diagnostics import Beside
from voxelboard.benchmark.tasks.encode import (
    Features,
    for_rows,
)
from voxelboard.benchmark.tasks.open_track import (
    committed_layer,
    committed_settings,
    named_by_layer,
    only_deviation,
    only_layer,
)
from voxelboard.benchmark.tasks.preparation import Cohort, cohorts
from voxelboard.benchmark.tasks.story_work import narrative_work
from voxelboard.benchmark.tasks.work import ModelSize, Work

Float32Array = NDArray[np.float32]
Profiles = dict[str, dict[int, list[BlockStatistics]]]  # subject -> layer -> each fold


class Narrative:
    """The task: name, version, and what it does with a model and a data set."""

    name: TaskName = "narrative"
    version = 1
    default_data = "simulated-narrative"

    def mandatory_rows(self, data: DatasetFacts) -> list[Submission]:
        """Constant vector, context noise, random and static word vectors, confounds, the other listeners, the oracle."""
        return baseline_submissions(simulated=data.kind == "simulated", static_vectors=data.has_static_vectors)

    def work(
        self, data: NarrativeData, subjects: Sequence[str], size: ModelSize, protocol: Protocol, *, on_gpu: bool
    ) -> Work:
        """See :func:`narrative_work`."""
        return narrative_work(data, subjects, size, protocol, on_gpu=on_gpu)

    def prepare(self, submission: Submission, data: NarrativeData, context: RunContext) -> None:
        """Read the stories with the model and its untrained twins, and explain them if asked, into the store."""
        sources = open_sources(submission, data, context.settings, context.store, context.device, context.progress)
        if sources.by_subject is None:
            sources.features()
        for twin in sources.twins.values():
            twin()
        if context.settings.features and not submission.is_baseline:
            limit = context.settings.limit
            used = dict.fromkeys(s.story for train, test in data.split.folds for s in (*train[:limit], *test))
            open_explainer(submission, context)({name: data.stories[name] for name in used})

    def measure(
        self, submission: Submission, data: NarrativeData, subjects: Sequence[str], context: RunContext
    ) -> Iterator[MeasuredCell]:
        """Read the stories with the model and its untrained twins, then score every subject.

        Raises
        ------
        UserError, InvalidNumbers
            as :meth:`run` and the loading of the model.
        """
        settings, stopwatch, progress = context.settings, context.stopwatch, context.progress
        with stopwatch.stage("model"):
            progress("model", 0, 0)
            reading = committed_settings(submission, settings)
            sources = open_sources(submission, data, reading, context.store, context.device, progress)
            layer = committed_layer(submission, sources.n_layers)
            part = one_fold(data, settings.fold)
        groups = None
        if sources.by_subject is None:
            with stopwatch.stage("responses"):  # before the features, which take longer: what is wrong is told at once
                progress("responses", 0, 0)
                protocol = for_rows(context.protocol, data.stories)
                groups = cohorts(part, _with_partners(data, subjects), protocol, settings.limit)
        with stopwatch.stage("receipt"):
            progress("receipt", 0, 0)
            receipt = sources.receipt()
        with stopwatch.stage("exposure"):
            exposure = sources.exposure() if settings.fold is None else {}
        with stopwatch.stage("features"):
            features = {} if sources.by_subject else only_layer(sources.features(), layer)
            wanted = sources.twins if settings.fold is None else {}
            twins = {seed: only_layer(twin(), layer) for seed, twin in wanted.items()}
        beside = None
        if not submission.is_baseline and settings.fold is None:
            beside = Beside(static_features(data, context.protocol), only_deviation(receipt.deviation, layer))
        explain = open_explainer(submission, context) if settings.features and not submission.is_baseline else None
        model = ModelFeatures(features, twins, sources.by_subject, beside, explain)
        results = self.run(
            part,
            subjects,
            model,
            context.protocol,
            context.device,
            n_train_segments=settings.limit,
            progress=progress,
            groups=groups,
        )
        stamp = model_stamp(submission, sources.identity, sources.n_layers, sources.n_features)
        # the harness' own rows have next to nothing beyond the confounds: their ratio says nothing
        resolved = {**receipt.fields, **exposure, **({"alarms": ()} if submission.is_baseline else {})}
        for result in stopwatch.each("encoding and scores", results):
            responses = data.responses(result.subject)
            dataset = dataset_stamp(
                data, responses, n_train=result.n_train, n_test=result.n_test, n_repeats=result.n_repeats
            )
            named = named_by_layer(result, layer, sources.n_layers)
            yield MeasuredCell(dataset, stamp, replace(named, checks=merged_checks(named.checks, resolved)))

    def run(
        self,
        data: NarrativeData,
        subjects: Sequence[str],
        model: ModelFeatures,
        protocol: Protocol,
        device: torch.device,
        *,
        n_train_segments: int | None = None,
        progress: StageProgress = lambda stage, done, total: None,
        groups: Sequence[Cohort] | None = None,
    ) -> Iterator[CellResult]:
        """Score one model on subjects of a data set, one result a subject; ``groups`` are prepared responses, if at hand.

        Raises
        ------
        UserError
            for data that cannot be scored.
        InvalidNumbers
            when a canary finds something, or features are not finite.
        """
        protocol = for_rows(protocol, data.stories)
        if model.by_subject is not None:
            yield from _run_by_subject(
                data, subjects, model.by_subject, protocol, device, n_train_segments=n_train_segments, progress=progress
            )
            return
        if groups is None:
            progress("responses", 0, 0)
            groups = cohorts(data, _with_partners(data, subjects), protocol, n_train_segments)
        for cohort in groups:
            wanted = [subject for subject in cohort.subjects if subject in subjects]
            if wanted:
                yield from score_cohort(data, cohort, wanted, model, protocol, device, progress)


def _run_by_subject(
    data: NarrativeData,
    subjects: Sequence[str],
    features_of: Callable[[str], Features],
    protocol: Protocol,
    device: torch.device,
    *,
    n_train_segments: int | None,
    progress: StageProgress,
) -> Iterator[CellResult]:
    """Score features that differ between subjects and are on the clock of the responses."""
    for done, subject in enumerate(subjects):
        progress("subjects", done, len(subjects))
        features = features_of(subject)
        groups = cohorts(data, _with_partners(data, (subject,)), protocol, n_train_segments, features)
        for cohort in groups:
            if subject in cohort.subjects:
                model = ModelFeatures(features)
                yield from score_cohort(data, cohort, (subject,), model, protocol, device, progress, (0,))


def _with_partners(data: NarrativeData, subjects: Sequence[str]) -> Sequence[str]:
    """An inter-subject ceiling needs the responses of all subjects, whoever is scored."""
    unknown = [subject for subject in subjects if subject not in data.subjects]
    return (*data.subjects, *unknown) if data.ceiling_kind == "inter_subject" else subjects
