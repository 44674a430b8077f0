# SPDX-License-Identifier: Apache-2.0
"""Task narrative: predict the fMRI of people who listen to stories from a model's states of the words that they hear.

Presented: the stories of a data set, each word with the context that the protocol fixes. Features: the states of every
layer at the TRs. Analysis: ridge with FIR delays, whole segments left out, alpha and layer chosen inside the training
segments, once with the features as they are and once with what confounds cannot say (statistics.md 2.3). Score: H_u,
the noise-corrected share of the explainable signal, and beside it the floor, the untrained twin and the ceiling.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.protocol import Protocol, TaskName
from voxelboard.benchmark.readers.base import DatasetFacts, NarrativeData, one_fold
from voxelboard.benchmark.readers.registry import roi_order
from voxelboard.benchmark.records import Checks
from voxelboard.benchmark.sources import open_sources, static_features
from voxelboard.benchmark.stamps import dataset_stamp, model_stamp
from voxelboard.benchmark.statistics.scores import BlockStatistics, pool_rois, unit_explained_fractions
from voxelboard.benchmark.submission import Submission, baseline_submissions
from voxelboard.benchmark.tasks.attribution import (
    AttributionResult,
    Explain,
    attribution_results,
    open_explainer,
    with_attributions,
)
from voxelboard.benchmark.tasks.base import (
    CellResult,
    MeasuredCell,
    RunContext,
    StageProgress,
    merged_checks,
)
from voxelboard.benchmark.tasks.canaries import check_noise_brain, check_time_only, time_only_predictions
from voxelboard.benchmark.tasks.cells import SubjectResults, score_subject
from voxelboard.benchmark.tasks.diagnostics import Beside, Diagnosis, diagnose, main_layer
from voxelboard.benchmark.tasks.encode import (
    Encoding,
    Features,
    common_tr,
    encode,
    fit_confounds,
    for_rows,
    replace_delays,
)
from voxelboard.benchmark.tasks.open_track import (
    committed_layer,
    committed_settings,
    named_by_layer,
    only_deviation,
    only_layer,
)
from voxelboard.benchmark.tasks.preparation import NOISE_BRAIN, Cohort, cohorts
from voxelboard.benchmark.tasks.scoring import HeldOutResponses, by_voxel, equalise, roi_statistics, voxel_statistics
from voxelboard.benchmark.tasks.story_work import narrative_work
from voxelboard.benchmark.tasks.work import ModelSize, Work

Float32Array = NDArray[np.float32]


@dataclass(frozen=True)
class ModelFeatures:
    """A model as the task sees it: its features and those of its untrained twins.

    features : story -> (n_layers, n_trs, n_features).
    twins : twin seed -> the same; empty for baselines.
    by_subject : None, or subject -> features for that subject alone, on the clock of the responses: they get no delays
        (the cross-subject predictor). ``features`` and ``twins`` are then not used.
    explain : None, or stories -> attributions of a causal model, see :mod:`~voxelboard.benchmark.tasks.attribution`.
    beside : None for rows without diagnostics (the harness' own), see :mod:`~voxelboard.benchmark.tasks.diagnostics`.
    """

    features: Features
    twins: Mapping[int, Features] = field(default_factory=dict)
    by_subject: Callable[[str], Features] | None = None
    beside: Beside | None = None
    explain: Explain | None = None


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
                yield from _score_cohort(data, cohort, wanted, model, protocol, device, progress)


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
                yield from _score_cohort(data, cohort, (subject,), model, protocol, device, progress, (0,))


def _with_partners(data: NarrativeData, subjects: Sequence[str]) -> Sequence[str]:
    """An inter-subject ceiling needs the responses of all subjects, whoever is scored."""
    unknown = [subject for subject in subjects if subject not in data.subjects]
    return (*data.subjects, *unknown) if data.ceiling_kind == "inter_subject" else subjects


def _score_cohort(
    data: NarrativeData,
    cohort: Cohort,
    wanted: Sequence[str],
    model: ModelFeatures,
    protocol: Protocol,
    device: torch.device,
    progress: StageProgress,
    delays: tuple[int, ...] | None = None,
) -> Iterator[CellResult]:
    """Encode a cohort, watch the canaries, and score each wanted subject."""
    tests = {subject: held_out_responses(data, cohort, subject) for subject in wanted}
    progress("canaries", 0, 0)
    oasm = _oasm(data, cohort, tests, protocol, device)
    progress("confounds", 0, 0)
    confounds = fit_confounds(data.stories, cohort, protocol, device)
    profiles: dict[str, dict[int, list[BlockStatistics]]] = {subject: {} for subject in wanted}

    def keep(fold: int, layer: int, predictions: Float32Array) -> None:
        # Pooled at once: the predictions of all layers together would not fit in memory.
        for subject, profile in profiles.items():
            test = held_out_responses(data, cohort, subject, (fold,))
            (own,) = _of(cohort, subject, [predictions])
            scaled = own if len(cohort.folds) == 1 else equalise(own, test.rois)
            profile.setdefault(layer, []).append(roi_statistics(scaled, test, protocol.score))

    def layer_progress(done: int, total: int) -> None:
        progress("layers", done, total)

    timing = protocol if delays is None else replace_delays(protocol, delays)
    encoding = encode(model.features, data.stories, cohort, confounds, timing, device, keep, layer_progress)
    noise_predictions = by_voxel(_of(cohort, NOISE_BRAIN, encoding.predictions["raw"]))
    noise = check_noise_brain(_noise_test(cohort), noise_predictions, protocol)
    encoded_twins = {}
    for done, (seed, twin) in enumerate(model.twins.items()):
        progress("untrained twins", done, len(model.twins))
        encoded_twins[seed] = encode(twin, data.stories, cohort, confounds, protocol, device)
    diagnoses: dict[str, Diagnosis] = {}
    if model.beside is not None:
        layers = {subject: main_layer(encoding, subject, data.scored_rois) for subject in wanted}
        diagnoses = diagnose(
            model.features,
            data.stories,
            cohort,
            confounds,
            layers,
            data.scored_rois,
            model.beside,
            protocol,
            device,
            lambda done, total: progress("diagnostics", done, total),
        )
    explained: Mapping[str, AttributionResult] = {}
    if model.explain is not None:
        explained = attribution_results(
            model.explain, data.stories, cohort, tests, confounds, roi_order(data), protocol, device, progress
        )
    tr = common_tr({segment.story: data.stories[segment.story] for fold in cohort.folds for segment in fold.test})
    for subject in wanted:
        progress(f"scores of {subject}", 0, 0)
        predictions = {row: _of(cohort, subject, folds) for row, folds in encoding.predictions.items()}
        predictions["floor"] = _of(cohort, subject, [confound.floor for confound in confounds])
        for seed, encoded in encoded_twins.items():
            for row in ("raw", "unique"):
                predictions[f"twin{seed}_{row}"] = _of(cohort, subject, encoded.predictions[row])
        results = SubjectResults(
            subject,
            tests[subject],
            predictions,
            tuple(encoded_twins),
            {roi: encoding.chosen["unique"][subject, roi] for roi in data.scored_rois},
            {roi: encoding.inner["unique"][subject, roi] for roi in data.scored_rois},
            profiles[subject],
            diagnoses.get(subject),
            _checks(subject, encoding, oasm[subject], noise, protocol),
        )
        scored = score_subject(results, len(cohort.folds[0].responses), tr, protocol)
        yield with_attributions(scored, explained[subject]) if explained else scored


def held_out_responses(
    data: NarrativeData, cohort: Cohort, subject: str, fold_numbers: Sequence[int] | None = None
) -> HeldOutResponses:
    """The test responses of a subject, with the mean of the other subjects where that is the ceiling; default all folds."""
    folds = [cohort.folds[f] for f in (range(len(cohort.folds)) if fold_numbers is None else fold_numbers)]
    segments = tuple(run for fold in folds for run in fold.test_responses[subject])
    others = None
    if data.ceiling_kind == "inter_subject":
        rest = [other for other in cohort.subjects if other != subject]
        others = tuple(
            _mean_response([fold.test_responses[other][i] for other in rest])
            for fold in folds
            for i in range(len(fold.test))
        )
    places = cohort.vertices.get(subject)
    return HeldOutResponses(segments, others, cohort.rois[subject], tuple(data.scored_rois), data.ceiling_kind, places)


def _mean_response(runs: Sequence[Float32Array]) -> Float32Array:
    """(n_rows, n_voxels) mean over subjects of the mean over repeats; each run is (n_repeats, n_rows, n_voxels)."""
    mean: Float32Array = np.mean([run.mean(axis=0, dtype=np.float64) for run in runs], axis=0).astype(np.float32)
    return mean


def _noise_test(cohort: Cohort) -> HeldOutResponses:
    segments = tuple(run for fold in cohort.folds for run in fold.test_responses[NOISE_BRAIN])
    return HeldOutResponses(segments, None, cohort.rois[NOISE_BRAIN], (NOISE_BRAIN,), "none")


def _of(cohort: Cohort, subject: str, folds: Sequence[Float32Array]) -> list[Float32Array]:
    """One (n_test_rows, n_voxels of the subject) array a fold."""
    return [fold[:, cohort.columns[subject]] for fold in folds]


def _oasm(
    data: NarrativeData,
    cohort: Cohort,
    tests: Mapping[str, HeldOutResponses],
    protocol: Protocol,
    device: torch.device,
) -> dict[str, float]:
    """Subject -> share of the test variance that the time-only feature explains, mean over ROIs."""
    predictions = time_only_predictions(data.stories, cohort, protocol, device)
    scores = {}
    for subject, test in tests.items():
        together = np.concatenate(_of(cohort, subject, predictions))
        stats = pool_rois(voxel_statistics(together, test, protocol.score, kind="none"), test.rois, test.scored)
        scores[subject] = float(unit_explained_fractions(stats).values.mean())
    return check_time_only(scores, protocol)


def _checks(subject: str, encoding: Encoding, oasm: float, noise: float, protocol: Protocol) -> Checks:
    low, high = protocol.score.residual_sd_range
    ratios = [ratio for ratio in encoding.sd_ratios if np.isfinite(ratio)]
    worst = max(ratios, key=lambda ratio: abs(np.log(ratio))) if ratios else None
    edges = float(np.mean(encoding.edge_shares[subject]))
    alarms = []
    if worst is not None and not low <= worst <= high:
        alarms.append(
            f"confound-free features have {worst:.2f} times the training SD on test data (allowed {low}-{high})"
        )
    return Checks(oasm=oasm, noise_brain=noise, residual_sd_ratio=worst, alpha_edge_share=edges, alarms=tuple(alarms))
