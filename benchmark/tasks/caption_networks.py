# SPDX-License-Identifier: Apache-2.0
"""Do networks that are trained from pictures into caption space look like the brain? Layer by layer, timestep by timestep.

Three networks of one architecture and seed see the same training pictures: one is trained to a model's caption embeddings, one
to the categories that a picture shows, one not at all. Their geometry on held-out test pictures is compared with that of each
region, beside the embedding itself, with an interval over images and seeds. The test pictures are those of the task: no network
has seen them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.caption_tables import (
    Alignment,
    AnalysisStamp,
    AnalysisTables,
    Difference,
    Losses,
    PairedComparison,
)
from voxelboard.benchmark.encoding.designs import primal_problem
from voxelboard.benchmark.encoding.ridge import fit_ridge
from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.models.image_nets import Objective, layer_names, net_features
from voxelboard.benchmark.models.image_training import (
    TrainedNet,
    train_net,
    training_plan,
    untrained_net,
)
from voxelboard.benchmark.models.vision import VisionModel
from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.readers.captions_data import CaptionsData
from voxelboard.benchmark.similarity.comparisons import paired_comparisons
from voxelboard.benchmark.similarity.image_bootstrap import bootstrap_correlations, image_counts, seeded_difference
from voxelboard.benchmark.similarity.rdms import correlation_distances, draw_image_sets
from voxelboard.benchmark.similarity.rsa import RoiRdms, roi_rdms, set_correlations
from voxelboard.benchmark.tasks.caption_encoding import standardise
from voxelboard.benchmark.tasks.caption_geometry import embedding_rdms
from voxelboard.benchmark.tasks.caption_pictures import learning_curves_svg, profiles_svg

FloatArray = NDArray[np.float64]
NETWORKS: Final = ("caption-trained", "category-trained", "untrained")
EMBEDDING: Final = "embedding"
N_DRAWS: Final = 1000  # of images and seeds
# Called with (seed, network, epoch, epochs in all, training loss, held-out loss).
Report = Callable[[int, str, int, int, float, float], None]
Places = Mapping[tuple[str, str, int], NDArray[np.floating]]


@dataclass(frozen=True, eq=False)
class NetworkComparison:
    """What :func:`compare_networks` found.

    alignments : every network, seed, layer, timestep and region, and the embedding itself; differences : readouts and the
    embedding, all pairs; comparisons : the same pairs, paired over subjects with FDR; curves : (network, seed) -> losses.
    """

    subjects: tuple[str, ...]
    alignments: tuple[Alignment, ...]
    differences: tuple[Difference, ...]
    comparisons: tuple[PairedComparison, ...]
    curves: Mapping[tuple[str, int], TrainedNet]

    @property
    def n_epochs(self) -> int:
        """Epochs of each network."""
        return max(len(net.train_loss) for net in self.curves.values())

    def r(self, network: str, roi: str, layer: str = "readout", timestep: int = -1) -> float:
        """One number of the table, mean over seeds; ``timestep`` -1 is the last."""
        found = [a for a in self.alignments if (a.network, a.roi, a.layer) == (network, roi, layer)]
        time = sorted({a.timestep for a in found})[timestep]
        return float(np.mean([a.r for a in found if a.timestep == time]))

    def difference(self, first: str, second: str, roi: str) -> Difference:
        """One paired difference with its interval."""
        return next(d for d in self.differences if (d.first, d.second, d.roi) == (first, second, roi))

    def save(self, folder: Path, stamp: AnalysisStamp) -> None:
        """``networks.json`` with all numbers, ``learning_curves.svg`` and ``profiles.svg``."""
        losses = tuple(
            Losses(name, seed, net.train_loss, net.held_out_loss) for (name, seed), net in self.curves.items()
        )
        curves = {f"{one.network}, seed {one.seed}": (one.train, one.held_out) for one in losses}
        pictures = {"learning_curves.svg": learning_curves_svg(curves), "profiles.svg": profiles_svg(self.alignments)}
        for name, picture in pictures.items():
            replace_file(folder / name, lambda file, picture=picture: file.write(picture.encode()))  # type: ignore[misc]
        tables = AnalysisTables(
            stamp,
            alignments=self.alignments,
            differences=self.differences,
            comparisons=self.comparisons,
            losses=losses,
        )
        tables.save(folder / "networks.json")


def compare_networks(
    data: CaptionsData,
    embedding: NDArray[np.floating],
    protocol: Protocol,
    folder: Path,
    *,
    preset: str = "tiny",
    seeds: Sequence[int] = (0,),
    n_epochs: int | None = None,
    n_draws: int = N_DRAWS,
    device: torch.device | str = "cpu",
    progress: Report = lambda seed, network, epoch, total, train, held_out: None,
) -> NetworkComparison:
    """Train two networks a seed (or go on with those in ``folder``) and compare them with every subject.

    Parameters
    ----------
    embedding : (n_images, n_features) of ``data.images``: a model's caption embeddings, one layer.
    preset : ``tiny`` for a CPU, ``protocol`` for a GPU.
    seeds : of weights and order; the published study trains ten.
    """
    train_rows, test_rows = _split(data)
    pixels, tested = (data.pixels(data.images.ids[rows]) for rows in (train_rows, test_rows))
    scaled, embedding_test = standardise(embedding[train_rows], embedding[test_rows])
    shown = data.images.categories[:, data.images.categories[train_rows].any(axis=0)]
    if not shown.shape[1]:
        raise DataError(f"{data.name} has no categories: there is nothing to train the control to")
    targets: dict[Objective, NDArray[np.floating]] = {
        "caption": scaled,
        "category": shown[train_rows].astype(np.float32),
    }
    curves: dict[tuple[str, int], TrainedNet] = {}
    by_seed: dict[int, dict[tuple[str, str, int], NDArray[np.floating]]] = {}
    for seed in seeds:
        plans = {objective: training_plan(preset, objective, seed, n_epochs) for objective in targets}
        nets = {"untrained": untrained_net(plans["caption"], scaled.shape[1])}
        for objective, wanted in targets.items():
            name = f"{objective}-trained"
            where = folder / f"seed{seed}" / objective
            report = partial(progress, seed, name)
            trained = train_net(pixels, wanted, plans[objective], where, device=device, progress=report)
            curves[name, seed], nets[name] = trained, trained.net
        by_seed[seed] = {
            (name, layer_names(nets[name].size)[layer], time): table
            for name in NETWORKS
            for (layer, time), table in net_features(nets[name], tested, device).items()
        }
    last = max(time for places in by_seed.values() for _, _, time in places)
    embedded = {(EMBEDDING, "readout", 0): embedding_test.astype(np.float32)}
    alignments = [a for seed, places in by_seed.items() for a in align(places, data, protocol, seed)]
    alignments += align(embedded, data, protocol, seeds[0])
    readouts = {name: [by_seed[seed][name, "readout", last] for seed in seeds] for name in NETWORKS}
    readouts[EMBEDDING] = [embedding_test] * len(seeds)
    differences = _differences(readouts, data, protocol.seed, n_draws)
    return NetworkComparison(
        data.subjects, tuple(alignments), differences, _over_subjects(alignments, data, last), curves
    )


def _split(data: CaptionsData) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of the training and of the test images."""
    return np.flatnonzero(~np.isin(data.images.ids, data.test_ids)), np.asarray(data.images.rows(data.test_ids))


def _over_subjects(alignments: Sequence[Alignment], data: CaptionsData, last: int) -> tuple[PairedComparison, ...]:
    """Readouts at the last timestep, mean over seeds, paired over subjects."""
    if len(data.subjects) < 2:
        return ()
    finals = [a for a in alignments if a.layer == "readout" and (a.timestep == last or a.network == EMBEDDING)]
    scores = {
        name: np.stack(
            [
                np.mean([a.by_subject for a in finals if (a.network, a.roi) == (name, roi)], axis=0)
                for roi in data.scored_rois
            ],
            axis=1,
        )
        for name in (*NETWORKS, EMBEDDING)
    }
    return paired_comparisons(scores, data.scored_rois)


def _differences(
    readouts: Mapping[str, Sequence[NDArray[np.floating]]], data: CaptionsData, seed: int, n_draws: int
) -> tuple[Difference, ...]:
    """All pairs in all regions, on the RDM of all test images."""
    rows = [correlation_distances(table) for tables in readouts.values() for table in tables]
    counts = image_counts(len(data.test_ids), n_draws, seed)
    brains = []
    for subject in data.subjects:
        responses = data.responses(subject)
        brains += [correlation_distances(responses.test_mean[:, responses.rois == roi]) for roi in data.scored_rois]
    r = bootstrap_correlations(np.stack(rows), np.stack(brains), counts)
    n_seeds = len(next(iter(readouts.values())))
    # (n_draws, n_networks, n_seeds, n_rois): mean over subjects
    table = r.reshape(n_draws, len(readouts), n_seeds, len(data.subjects), len(data.scored_rois)).mean(axis=3)
    found = []
    for (i, first), (j, second) in combinations(enumerate(readouts), 2):
        for k, roi in enumerate(data.scored_rois):
            interval = seeded_difference(table[:, i, :, k], table[:, j, :, k], seed=seed)
            apart = tuple((table[0, i, :, k] - table[0, j, :, k]).tolist())
            found.append(Difference(first, second, roi, interval.estimate, interval.low, interval.high, apart))
    return tuple(found)


def align(places: Places, data: CaptionsData, protocol: Protocol, seed: int = 0) -> tuple[Alignment, ...]:
    """RSA of tables of features with every region of every subject, on disjoint sets of the test images.

    Parameters
    ----------
    places : (network, layer, timestep) -> (n_test, n_features), rows in the order of ``data.test_ids``.
    """
    size = min(protocol.captions.set_size, len(data.test_ids))
    sets = draw_image_sets(data.test_ids, data.name, seed=protocol.seed, set_size=size).rows(data.test_ids)
    brains: list[RoiRdms] = []
    for subject in data.subjects:
        responses = data.responses(subject)
        brains.append(roi_rdms(responses.test_mean, responses.rois, data.scored_rois, sets))
    found = []
    for (network, layer, time), table in places.items():
        rdms = embedding_rdms(table, sets)
        r = np.stack([set_correlations(rdms, brain).mean(axis=1) for brain in brains])  # (n_subjects, n_rois)
        found += [
            Alignment(network, layer, time, roi, float(r[:, i].mean()), tuple(r[:, i].tolist()), seed)
            for i, roi in enumerate(data.scored_rois)
        ]
    return tuple(found)


def caption_space_readout(
    train: NDArray[np.floating], embedding: NDArray[np.floating], test: NDArray[np.floating], protocol: Protocol
) -> FloatArray:
    """(n_test, n_outputs) linear readout of a vision model's features into caption space, ridge with inner folds.

    Parameters
    ----------
    train, test : (n_train, n_features), (n_test, n_features); embedding : (n_train, n_outputs) of the training pictures.
    """
    scaled_train, scaled_test = standardise(train, test)
    (targets,) = standardise(embedding)
    folds = np.arange(len(train)) * protocol.encoding.n_inner_folds // len(train)
    problem = primal_problem(scaled_train, scaled_test)
    fit = fit_ridge(problem, targets.astype(np.float32), folds, protocol.encoding.relative_alphas)
    return fit.test_predictions.astype(np.float64)


def vision_places(
    name: str,
    model: VisionModel,
    data: CaptionsData,
    embedding: NDArray[np.floating],
    protocol: Protocol,
    layers: Sequence[str] | None = None,
) -> dict[tuple[str, str, int], NDArray[np.floating]]:
    """A vision model for :func:`align`: each layer as it is, and read out linearly into caption space."""
    train_rows, _ = _split(data)
    train, test = (model(data.pixels(ids)) for ids in (data.images.ids[train_rows], data.test_ids))
    places: dict[tuple[str, str, int], NDArray[np.floating]] = {}
    for layer in layers or list(train):
        places[name, layer, 0] = test[layer]
        read = caption_space_readout(train[layer], embedding[train_rows], test[layer], protocol)
        places[f"{name}, read out", layer, 0] = read
    return places
