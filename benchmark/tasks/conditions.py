# SPDX-License-Identifier: Apache-2.0
"""A model fitted to intact stories, tested on what it makes of perturbed ones, or fitted without some property.

The layer of each subject and ROI is the one that the task narrative chose on intact training stories, so the layers are
compared once. A perturbed text adds the test segments once more, under names of their own: they share the fit and its
alphas. A property that is taken out of the representation (Oota et al. 2023) is taken out of training and test
features alike, by a map that is fit inside the training segments, and the model is fitted again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.removal import PropertyMap, probe_hits, remove_property
from voxelboard.benchmark.features.resample import tr_sum
from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.readers.base import Segment
from voxelboard.benchmark.statistics.scores import BlockStatistics
from voxelboard.benchmark.stimuli.perturbations import tag_word
from voxelboard.benchmark.stimuli.perturbed_stories import tagged_words
from voxelboard.benchmark.stimuli.stories import Story
from voxelboard.benchmark.tasks.encode import (
    ConfoundFold,
    Features,
    common_tr,
    fit_confounds,
    fit_unique,
    project,
    segmented,
)
from voxelboard.benchmark.tasks.preparation import Cohort, PreparedFold, inner_fold_numbers
from voxelboard.benchmark.tasks.scoring import HeldOutResponses, by_roi, by_voxel, correlation_influence, roi_statistics

Float32Array = NDArray[np.float32]
LayerFeatures = Mapping[str, Float32Array]  # story -> (n_trs, n_features) of one layer
Row = TypeVar("Row", bound=np.generic)
Chosen = Mapping[str, Mapping[str, Sequence[int]]]  # subject -> ROI -> layer of each fold
INTACT = "intact"
REMOVED, SHIFTED = "residual-", "random-residual-"


class ConditionScores(NamedTuple):
    """One condition, one subject, beyond the confounds.

    stats : block statistics by scored ROI. voxel_r : (n_voxels,) correlation of each voxel.
    """

    stats: BlockStatistics
    voxel_r: Float32Array


@dataclass(frozen=True, eq=False)
class Probe:
    """What a linear reader finds of a property, over the rows of all test segments and the layers that were chosen.

    intact, removed : (n_rows,) share of the layers at which the row's class was found, before and after removal.
    chance : (n_rows,) whether it is the most frequent class of the training segments.
    """

    intact: NDArray[np.float64]
    removed: NDArray[np.float64]
    chance: NDArray[np.float64]


Scores = dict[str, dict[str, ConditionScores]]  # subject -> condition -> scores


def stories_tested(cohort: Cohort) -> tuple[str, ...]:
    """The stories that hold test segments, each once."""
    return tuple(dict.fromkeys(segment.story for fold in cohort.folds for segment in fold.test))


def condition_statistics(
    intact: Features,
    perturbed: Mapping[str, Features],
    stories: Mapping[str, Story],
    cohort: Cohort,
    tests: Mapping[str, HeldOutResponses],
    chosen: Chosen,
    protocol: Protocol,
    device: torch.device,
) -> Scores:
    """Scores of the intact text (``INTACT``) and of every perturbed one, from the same fits.

    Parameters
    ----------
    intact : story -> (n_layers, n_trs, n_features), of all stories.
    perturbed : condition -> the same of the test stories.
    tests : the subjects that are scored; ``chosen`` their layers.
    """
    names = (INTACT, *perturbed)
    features, known = dict(intact), dict(stories)
    for condition in perturbed:
        for story in stories_tested(cohort):
            # the listener heard the intact story, so its confounds are those of the intact story
            features[_renamed(story, condition)] = perturbed[condition][story]
            known[_renamed(story, condition)] = stories[story]
    extended = replace(cohort, folds=tuple(_extended(fold, list(perturbed)) for fold in cohort.folds))
    confounds = fit_confounds(known, extended, protocol, device, floor=False)
    tr = common_tr(stories)
    predictions = [
        _predict(
            lambda layer: {name: table[layer] for name, table in features.items()},
            k,
            extended,
            fold,
            chosen,
            protocol,
            tr,
            device,
        )
        for k, fold in enumerate(confounds)
    ]
    found: Scores = {}
    for subject, test in tests.items():
        folds = [np.split(fold[:, cohort.columns[subject]], len(names)) for fold in predictions]
        found[subject] = {name: _scores([parts[k] for parts in folds], test, protocol) for k, name in enumerate(names)}
    return found


def removal_statistics(
    features: Features,
    stories: Mapping[str, Story],
    cohort: Cohort,
    tests: Mapping[str, HeldOutResponses],
    chosen: Chosen,
    protocol: Protocol,
    device: torch.device,
) -> tuple[Scores, dict[str, Probe]]:
    """Scores without each property of the protocol, and without the same labels at the wrong time (the control).

    The labels of the control are those of every story, shifted by half its length. Probes are by condition.
    """
    confounds = fit_confounds(stories, cohort, protocol, device, floor=False)
    tr = common_tr(stories)
    found: Scores = {subject: {} for subject in tests}
    probes = {}
    for condition, counts in _labels(stories, features, protocol):
        removals = [_Removal(features, counts, fold, protocol.ablation.removal_most_words) for fold in cohort.folds]
        predictions = [
            _predict(removal.features, k, cohort, confound, chosen, protocol, tr, device)
            for k, (removal, confound) in enumerate(zip(removals, confounds, strict=True))
        ]
        for subject, test in tests.items():
            own = [fold[:, cohort.columns[subject]] for fold in predictions]
            found[subject][condition] = _scores(own, test, protocol)
        probes[condition] = _joined([removal.probe() for removal in removals])
    return found, probes


def removal_conditions(protocol: Protocol) -> tuple[str, ...]:
    """The conditions of :func:`removal_statistics`, each before its control."""
    return tuple(kind + name for name in protocol.ablation.removals for kind in (REMOVED, SHIFTED))


def _labels(
    stories: Mapping[str, Story], used: Features, protocol: Protocol
) -> Iterator[tuple[str, dict[str, NDArray[np.intp]]]]:
    """Condition and story -> (n_trs,) how many words of the class each TR has."""
    policy = protocol.ablation
    tagged = {name: tagged_words(stories[name], policy.window_words).tags for name in used}
    for group in policy.removals:
        counts = {}
        for name, tags in tagged.items():
            members = np.array([[tag_word(tag, group) is not None] for tag in tags], dtype=np.float64)
            counts[name] = tr_sum(members, stories[name])[:, 0].astype(np.intp)
        yield REMOVED + group, counts
        yield SHIFTED + group, {name: np.roll(table, len(table) // 2) for name, table in counts.items()}


class _Removal:
    """One property taken out of the features of one fold, layer by layer."""

    def __init__(
        self, features: Features, counts: Mapping[str, NDArray[np.intp]], fold: PreparedFold, most_words: int
    ) -> None:
        self._features = features
        self._fold = fold
        self._classes = {name: np.minimum(table, most_words) for name, table in counts.items()}
        self._n_classes = most_words + 1
        self._probes: dict[int, Probe] = {}
        numbers = inner_fold_numbers(fold.train, len(np.unique(fold.inner_folds)))
        self._row_folds = np.repeat(numbers, [segment.stop - segment.start for segment in fold.train])

    def features(self, layer: int) -> dict[str, Float32Array]:
        """Story -> (n_trs, n_features) residuals: of training rows by the other inner folds, of all others by all training rows."""
        fold, one_hot = self._fold, np.eye(self._n_classes)
        used = dict.fromkeys(segment.story for segment in (*fold.train, *fold.test))
        own = {name: self._features[name][layer] for name in used}
        states, classes = _rows(own, fold.train), _rows(self._classes, fold.train)
        labels = one_hot[classes]
        said = PropertyMap(states, labels, self._row_folds)
        left = {name: said.residuals(table, one_hot[self._classes[name]]) for name, table in own.items()}
        residuals = remove_property(states, labels, self._row_folds).residuals
        stops = np.cumsum([segment.stop - segment.start for segment in fold.train])[:-1]
        for segment, part in zip(fold.train, np.split(residuals, stops), strict=True):
            left[segment.story][segment.start : segment.stop] = part
        new = _rows(self._classes, fold.test)
        most = np.bincount(classes).argmax()
        self._probes[layer] = Probe(
            probe_hits(states, classes, _rows(own, fold.test), new).astype(np.float64),
            probe_hits(residuals, classes, _rows(left, fold.test), new).astype(np.float64),
            (new == most).astype(np.float64),
        )
        return left

    def probe(self) -> Probe:
        """Mean over the layers that were asked for."""
        found = [self._probes[layer] for layer in sorted(self._probes)]
        return Probe(
            np.mean([probe.intact for probe in found], axis=0),
            np.mean([probe.removed for probe in found], axis=0),
            found[0].chance,
        )


def _joined(folds: Sequence[Probe]) -> Probe:
    return Probe(*(np.concatenate([getattr(fold, name) for fold in folds]) for name in ("intact", "removed", "chance")))


def _rows(tables: Mapping[str, NDArray[Row]], segments: Sequence[Segment]) -> NDArray[Row]:
    """The rows of segments, one below the other, untrimmed."""
    return np.concatenate([tables[segment.story][segment.start : segment.stop] for segment in segments])


def _predict(
    features: Callable[[int], LayerFeatures],
    fold_number: int,
    cohort: Cohort,
    confound: ConfoundFold,
    chosen: Chosen,
    protocol: Protocol,
    tr: float,
    device: torch.device,
) -> Float32Array:
    """(n_test_rows, n_voxels) of one fold beyond the confounds, each subject and ROI at its layer; 0 where nothing was chosen."""
    fold = cohort.folds[fold_number]
    by_layer: dict[int, list[tuple[str, str]]] = {}
    for subject, layers in chosen.items():
        for roi, numbers in layers.items():
            by_layer.setdefault(numbers[fold_number], []).append((subject, roi))
    predictions = np.zeros((sum(len(basis) for basis in confound.bases), cohort.n_voxels), dtype=np.float32)
    used = dict.fromkeys(segment.story for segment in (*fold.train, *fold.test))
    for layer in sorted(by_layer):
        own = features(layer)
        problem = segmented({name: own[name] for name in used}, protocol, tr).problem(
            fold.train, fold.test, device=device
        )
        projected = project(fit_unique(problem, fold, confound, protocol).fit.test_predictions, confound.bases)
        for subject, roi in by_layer[layer]:
            voxels = cohort.columns[subject].start + np.flatnonzero(cohort.rois[subject] == roi)
            predictions[:, voxels] = projected[:, voxels]
    return predictions


def _scores(folds: Sequence[Float32Array], test: HeldOutResponses, protocol: Protocol) -> ConditionScores:
    _, voxel_r = correlation_influence(by_voxel(folds), test, protocol.score)
    return ConditionScores(roi_statistics(by_roi(folds, test.rois), test, protocol.score), voxel_r.astype(np.float32))


def _renamed(story: str, condition: str) -> str:
    return f"{story}\x1f{condition}"


def _extended(fold: PreparedFold, conditions: Sequence[str]) -> PreparedFold:
    """The fold with its test segments once more for each condition, all of a condition together."""
    added = tuple(
        Segment(_renamed(segment.story, condition), segment.start, segment.stop)
        for condition in conditions
        for segment in fold.test
    )
    n_times = 1 + len(conditions)
    responses = {subject: runs * n_times for subject, runs in fold.test_responses.items()}
    return replace(fold, test=(*fold.test, *added), test_responses=responses)
