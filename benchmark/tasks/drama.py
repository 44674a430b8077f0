# SPDX-License-Identifier: Apache-2.0
"""Task drama: predict the fMRI of people who watch films from a model's states of texts about what they see and hear.

Presented: films, described second by second at up to five levels of meaning (speech, object, story, summary, time and
place). Features: the states of every layer for the text of each second, averaged over annotators and over delays of 8 to
10 s. Analysis: ridge for every level and layer, the layer of each level chosen inside the training titles, then banded
ridge over all levels at once, and again without each of them. Score: H_u of all levels together beyond sound, picture
and the form of the texts; beside it what each level explains alone and beyond the others. After Nakagi et al. 2024.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.protocol import Protocol, TaskName, hash_json
from voxelboard.benchmark.readers.base import DatasetFacts, Segment
from voxelboard.benchmark.readers.drama_base import DramaData, PresentedRuns, check_title_folds
from voxelboard.benchmark.record_stamps import DatasetStamp
from voxelboard.benchmark.stamps import model_stamp
from voxelboard.benchmark.statistics.scores import BlockStatistics, pool_rois, unit_explained_fractions
from voxelboard.benchmark.submission import Submission, baseline_submissions
from voxelboard.benchmark.tasks.base import CellResult, MeasuredCell, RunContext, merged_checks
from voxelboard.benchmark.tasks.canaries import check_noise_brain, check_time_only, time_only_predictions
from voxelboard.benchmark.tasks.drama_encode import (
    DramaEncoding,
    Float32Array,
    LevelFeatures,
    encode_drama,
    fit_film_confounds,
)
from voxelboard.benchmark.tasks.drama_scores import ViewerResults, score_viewer
from voxelboard.benchmark.tasks.drama_sources import DramaSources, open_drama_sources
from voxelboard.benchmark.tasks.encode import common_tr
from voxelboard.benchmark.tasks.film_work import NOT_BY_LEVEL, drama_work
from voxelboard.benchmark.tasks.fit_checks import subject_checks
from voxelboard.benchmark.tasks.preparation import NOISE_BRAIN, Cohort, cohorts
from voxelboard.benchmark.tasks.scoring import HeldOutResponses, roi_statistics, voxel_statistics
from voxelboard.benchmark.tasks.work import ModelSize, Work


class Drama:
    """The task: name, version, and what it does with a model and a data set."""

    name: TaskName = "drama"
    version = 1
    default_data = "simulated-drama"

    def mandatory_rows(self, data: DatasetFacts) -> list[Submission]:
        """Constant vector, context noise, random and static word vectors, confounds, the other viewers, the oracle."""
        rows = baseline_submissions(simulated=data.kind == "simulated", static_vectors=data.has_static_vectors)
        # voxels of real viewers have no counterpart in another viewer, and their films come without sound and picture
        absent = () if data.kind == "simulated" else ("cross-subject", "spectral")
        return [row for row in rows if row.model.id not in absent]

    def work(
        self, data: DramaData, subjects: Sequence[str], size: ModelSize, protocol: Protocol, *, on_gpu: bool
    ) -> Work:
        """See :func:`drama_work`."""
        return drama_work(data, subjects, size, protocol, on_gpu=on_gpu)

    def prepare(self, submission: Submission, data: DramaData, context: RunContext) -> None:
        """Read the texts of all runs and levels with the model and its untrained twins into the store."""
        sources = open_drama_sources(submission, data, context)
        sources.features()
        for twin in sources.twins.values():
            twin()

    def measure(
        self, submission: Submission, data: DramaData, subjects: Sequence[str], context: RunContext
    ) -> Iterator[MeasuredCell]:
        """Read the texts with the model and its untrained twins, then score every subject.

        Raises
        ------
        UserError
            for data that cannot be scored, and as the loading of the model.
        InvalidNumbers
            when a canary finds something, or features are not finite.
        """
        stopwatch = context.stopwatch
        with stopwatch.stage("model"):
            context.progress("model", 0, 0)
            sources = open_drama_sources(submission, data, context)
        with stopwatch.stage("receipt"):
            context.progress("receipt", 0, 0)
            receipt = sources.receipt()
        by_level = not submission.is_baseline or (submission.model.id or "").partition("-d")[0] not in NOT_BY_LEVEL
        stamp = model_stamp(submission, sources.identity, sources.n_layers, sources.n_features)
        # the harness' own rows have next to nothing beyond the confounds: their ratio says nothing
        resolved = {**receipt, **({"alarms": ()} if submission.is_baseline else {})}
        for result in stopwatch.each("encoding and scores", self._run(data, subjects, sources, by_level, context)):
            checks = merged_checks(result.checks, resolved)
            yield MeasuredCell(_stamp(data, result), stamp, replace(result, checks=checks))

    def _run(
        self,
        data: DramaData,
        subjects: Sequence[str],
        sources: DramaSources,
        by_level: bool,
        context: RunContext,
    ) -> Iterator[CellResult]:
        if sources.by_subject is not None:
            protocol = replace(context.protocol, drama=replace(context.protocol.drama, delays_s=(0.0,)))
            for subject in subjects:
                features = sources.by_subject(subject)
                yield from _score(data, (subject,), features, {}, protocol, context, by_level=by_level)
            return
        with context.stopwatch.stage("features"):
            features = sources.features()
            twins = {seed: twin() for seed, twin in sources.twins.items()}
        yield from _score(data, subjects, features, twins, context.protocol, context, by_level=by_level)


def _score(
    data: DramaData,
    subjects: Sequence[str],
    features: LevelFeatures,
    twins: Mapping[int, LevelFeatures],
    protocol: Protocol,
    context: RunContext,
    *,
    by_level: bool,
) -> Iterator[CellResult]:
    """Score each group of subjects who saw the same runs."""
    context.progress("responses", 0, 0)
    presented, seen = PresentedRuns(data), next(iter(features.values()))
    test = presented.split.test_segments

    def title_rule(train: Sequence[Segment]) -> NDArray[np.intp]:
        return check_title_folds(data.runs, train, test, data.inner_folds)

    for cohort in cohorts(presented, subjects, protocol, context.settings.limit, seen, title_rule):
        yield from _score_cohort(data, cohort, features, twins, protocol, context, by_level=by_level)


def _score_cohort(
    data: DramaData,
    cohort: Cohort,
    features: LevelFeatures,
    twins: Mapping[int, LevelFeatures],
    protocol: Protocol,
    context: RunContext,
    *,
    by_level: bool,
) -> Iterator[CellResult]:
    """Encode a cohort, watch the canaries, and score each subject."""
    tests = {subject: _held_out(data, cohort, subject) for subject in cohort.subjects}
    context.progress("canaries", 0, 0)
    oasm = _check_time(data, cohort, tests, protocol, context)
    context.progress("confounds", 0, 0)
    confounds = fit_film_confounds(data.runs, data.levels, cohort, protocol, context.device)
    profiles: dict[str, dict[str, dict[int, BlockStatistics]]] = {subject: {} for subject in tests}

    def keep(level: str, layer: int, predictions: Float32Array) -> None:
        # Pooled at once: the predictions of all layers together would not fit in memory.
        for subject, profile in profiles.items():
            own = predictions[:, cohort.columns[subject]]
            profile.setdefault(level, {})[layer] = roi_statistics(own, tests[subject], protocol.score)

    shared = (data.runs, cohort, confounds, data.scored_rois, protocol, context.device)
    encoding = encode_drama(features, *shared, leave_out=by_level, each_layer=keep, progress=context.progress)
    noise = _check_noise(cohort, encoding, protocol)
    encoded_twins = {}
    for done, (seed, twin) in enumerate(twins.items()):
        context.progress("untrained twins", done, len(twins))
        encoded_twins[seed] = encode_drama(twin, *shared, leave_out=False)
    for subject in cohort.subjects:
        context.progress(f"scores of {subject}", 0, 0)
        checks = subject_checks(subject, encoding, oasm[subject], noise, protocol)
        viewer = ViewerResults(
            subject,
            tests[subject],
            cohort.columns[subject],
            encoding,
            confounds.floor,
            encoded_twins,
            profiles[subject],
            checks,
        )
        yield score_viewer(viewer, len(cohort.folds[0].responses), common_tr(data.runs), protocol)


def _check_time(
    data: DramaData, cohort: Cohort, tests: Mapping[str, HeldOutResponses], protocol: Protocol, context: RunContext
) -> dict[str, float]:
    """Subject -> share of the test variance that a feature explains which knows only when a TR happened."""
    (predictions,) = time_only_predictions(data.runs, cohort, protocol, context.device)
    scores = {}
    for subject, test in tests.items():
        own = voxel_statistics(predictions[:, cohort.columns[subject]], test, protocol.score, kind="none")
        scores[subject] = float(unit_explained_fractions(pool_rois(own, test.rois, test.scored)).values.mean())
    return check_time_only(scores, protocol)


def _held_out(data: DramaData, cohort: Cohort, subject: str) -> HeldOutResponses:
    (fold,) = cohort.folds
    runs, rois = fold.test_responses[subject], cohort.rois[subject]
    return HeldOutResponses(runs, None, rois, tuple(data.scored_rois), data.ceiling_kind)


def _check_noise(cohort: Cohort, encoding: DramaEncoding, protocol: Protocol) -> float:
    runs = cohort.folds[0].test_responses[NOISE_BRAIN]
    test = HeldOutResponses(runs, None, cohort.rois[NOISE_BRAIN], (NOISE_BRAIN,), "none")
    return check_noise_brain(test, encoding.raw[:, cohort.columns[NOISE_BRAIN]], protocol)


def _stamp(data: DramaData, result: CellResult) -> DatasetStamp:
    responses = data.responses(result.subject)
    return DatasetStamp(
        name=data.name,
        version=data.version,
        kind=data.kind,
        ceiling_kind=data.ceiling_kind,
        stimuli_sha256=hash_json({name: data.runs[name].sha256 for name in responses.runs}),
        responses_sha256=responses.sha256(),
        scored_rois=tuple(data.scored_rois),
        n_train=result.n_train,
        n_test=result.n_test,
        n_voxels=result.n_voxels,
        n_repeats=result.n_repeats,
    )
