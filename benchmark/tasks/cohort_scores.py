# SPDX-License-Identifier: Apache-2.0
"""One model and one cohort in, the scores of each listener out: encoding, canaries, twins, diagnostics, attributions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.readers.base import NarrativeData
from voxelboard.benchmark.readers.registry import roi_order
from voxelboard.benchmark.statistics.scores import BlockStatistics, pool_rois, unit_explained_fractions
from voxelboard.benchmark.tasks.attribution import (
    AttributionResult,
    Explain,
    attribution_results,
    with_attributions,
)
from voxelboard.benchmark.tasks.base import (
    CellResult,
    StageProgress,
)
from voxelboard.benchmark.tasks.canaries import check_noise_brain, check_time_only, time_only_predictions
from voxelboard.benchmark.tasks.cells import SubjectResults, score_subject
from voxelboard.benchmark.tasks.diagnostics import Beside, Diagnosis, diagnose, main_layer
from voxelboard.benchmark.tasks.encode import (
    ConfoundFold,
    Encoding,
    Features,
    common_tr,
    encode,
    fit_confounds,
    replace_delays,
)
from voxelboard.benchmark.tasks.fit_checks import subject_checks
from voxelboard.benchmark.tasks.held_out import columns_of, held_out_responses, noise_test
from voxelboard.benchmark.tasks.listener_ceilings import extrapolated_estimates
from voxelboard.benchmark.tasks.preparation import NOISE_BRAIN, Cohort
from voxelboard.benchmark.tasks.scoring import HeldOutResponses, by_voxel, equalise, roi_statistics, voxel_statistics

Float32Array = NDArray[np.float32]
Profiles = dict[str, dict[int, list[BlockStatistics]]]  # subject -> layer -> each fold


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


@dataclass(frozen=True, eq=False)
class _Bench:
    """What every step of scoring a cohort needs.

    tests : wanted subject -> held-out responses of all folds; confounds : one a fold.
    """

    data: NarrativeData
    cohort: Cohort
    tests: Mapping[str, HeldOutResponses]
    confounds: tuple[ConfoundFold, ...]
    protocol: Protocol
    device: torch.device
    progress: StageProgress

    def encode_layers(self, features: Features, delays: tuple[int, ...] | None) -> tuple[Encoding, Profiles]:
        """The encoding, and subject -> layer -> statistics of each fold of the unique row; ``delays`` replace the protocol's."""
        profiles: Profiles = {subject: {} for subject in self.tests}

        def keep(fold: int, layer: int, predictions: Float32Array) -> None:
            # Pooled at once: the predictions of all layers together would not fit in memory.
            for subject, profile in profiles.items():
                test = held_out_responses(self.data, self.cohort, subject, (fold,))
                (own,) = columns_of(self.cohort, subject, [predictions])
                scaled = own if len(self.cohort.folds) == 1 else equalise(own, test.rois)
                profile.setdefault(layer, []).append(roi_statistics(scaled, test, self.protocol.score))

        def layer_progress(done: int, total: int) -> None:
            self.progress("layers", done, total)

        timing = self.protocol if delays is None else replace_delays(self.protocol, delays)
        encoding = encode(
            features, self.data.stories, self.cohort, self.confounds, timing, self.device, keep, layer_progress
        )
        return encoding, profiles

    def encode_twins(self, twins: Mapping[int, Features]) -> dict[int, Encoding]:
        """Twin seed -> encoding."""
        encoded = {}
        for done, (seed, twin) in enumerate(twins.items()):
            self.progress("untrained twins", done, len(twins))
            encoded[seed] = encode(twin, self.data.stories, self.cohort, self.confounds, self.protocol, self.device)
        return encoded

    def diagnoses(self, model: ModelFeatures, encoding: Encoding) -> dict[str, Diagnosis]:
        """Subject -> diagnosis at its main layer; nothing for rows without diagnostics."""
        if model.beside is None:
            return {}
        scored = self.data.scored_rois
        return diagnose(
            model.features,
            self.data.stories,
            self.cohort,
            self.confounds,
            {subject: main_layer(encoding, subject, scored) for subject in self.tests},
            scored,
            model.beside,
            self.protocol,
            self.device,
            lambda done, total: self.progress("diagnostics", done, total),
        )

    def explanations(self, explain: Explain | None) -> Mapping[str, AttributionResult]:
        """Subject -> what attribution methods explain; nothing where they were not asked for."""
        if explain is None:
            return {}
        return attribution_results(
            explain,
            self.data.stories,
            self.cohort,
            self.tests,
            self.confounds,
            roi_order(self.data),
            self.protocol,
            self.device,
            self.progress,
        )

    def predictions(
        self, subject: str, encoding: Encoding, twins: Mapping[int, Encoding]
    ) -> dict[str, list[Float32Array]]:
        """Row -> the subject's part of each fold, as :class:`SubjectResults` names rows."""
        found = {row: columns_of(self.cohort, subject, folds) for row, folds in encoding.predictions.items()}
        found["floor"] = columns_of(self.cohort, subject, [confound.floor for confound in self.confounds])
        for seed, encoded in twins.items():
            for row in ("raw", "unique"):
                found[f"twin{seed}_{row}"] = columns_of(self.cohort, subject, encoded.predictions[row])
        return found


def score_cohort(
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
    bench = _Bench(data, cohort, tests, confounds, protocol, device, progress)
    encoding, profiles = bench.encode_layers(model.features, delays)
    noise_predictions = by_voxel(columns_of(cohort, NOISE_BRAIN, encoding.predictions["raw"]))
    noise = check_noise_brain(noise_test(cohort), noise_predictions, protocol)
    twins = bench.encode_twins(model.twins)
    diagnoses = bench.diagnoses(model, encoding)
    explained = bench.explanations(model.explain)
    listeners = data.ceiling_kind == "inter_subject"
    extrapolated = extrapolated_estimates(cohort, wanted, data.scored_rois, protocol) if listeners else {}
    tr = common_tr({segment.story: data.stories[segment.story] for fold in cohort.folds for segment in fold.test})
    for subject in wanted:
        progress(f"scores of {subject}", 0, 0)
        results = SubjectResults(
            subject,
            tests[subject],
            bench.predictions(subject, encoding, twins),
            tuple(twins),
            {roi: encoding.chosen["unique"][subject, roi] for roi in data.scored_rois},
            {roi: encoding.inner["unique"][subject, roi] for roi in data.scored_rois},
            profiles[subject],
            diagnoses.get(subject),
            subject_checks(subject, encoding, oasm[subject], noise, protocol),
            extrapolated.get(subject),
        )
        scored = score_subject(results, len(cohort.folds[0].responses), tr, protocol)
        yield with_attributions(scored, explained[subject]) if explained else scored


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
        together = np.concatenate(columns_of(cohort, subject, predictions))
        stats = pool_rois(voxel_statistics(together, test, protocol.score, kind="none"), test.rois, test.scored)
        scores[subject] = float(unit_explained_fractions(stats).values.mean())
    return check_time_only(scores, protocol)
