# SPDX-License-Identifier: Apache-2.0
"""Do networks that are trained from pictures into caption space look like the brain? Layer by layer, timestep by timestep.

Three networks of one architecture and seed see the same training pictures: one is trained to a model's caption embeddings, one
to the categories that a picture shows, one not at all. Their geometry on held-out test pictures is compared with that of each
region, beside the embedding itself. The test pictures are those of the task: no network has seen them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.encoding.designs import primal_problem
from voxelboard.benchmark.encoding.ridge import fit_ridge
from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.models.image_nets import layer_names, net_features
from voxelboard.benchmark.models.image_training import (
    PRESETS,
    TrainedNet,
    TrainingProgress,
    train_net,
    training_plan,
    untrained_net,
)
from voxelboard.benchmark.models.vision import VisionModel
from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.readers.captions_data import CaptionsData
from voxelboard.benchmark.similarity.comparisons import PairedComparison, paired_comparisons
from voxelboard.benchmark.similarity.rdms import draw_image_sets
from voxelboard.benchmark.similarity.rsa import RoiRdms, roi_rdms, set_correlations
from voxelboard.benchmark.tasks.caption_encoding import standardise
from voxelboard.benchmark.tasks.caption_geometry import embedding_rdms
from voxelboard.benchmark.tasks.caption_pictures import learning_curves_svg, profiles_svg

FloatArray = NDArray[np.float64]
NETWORKS: Final = ("caption-trained", "category-trained", "untrained")
EMBEDDING: Final = "embedding"


@dataclass(frozen=True)
class Alignment:
    """RSA r of one place of a network with one region, mean over sets and subjects.

    layer : ``layer 0`` .. or ``readout``; timestep from 0; by_subject : in the order of the subjects.
    """

    network: str
    layer: str
    timestep: int
    roi: str
    r: float
    by_subject: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class NetworkComparison:
    """What :func:`compare_networks` found.

    alignments : every network, layer, timestep and region, and the embedding itself; comparisons : readouts at the last
    timestep and the embedding, all pairs, paired over subjects with FDR; curves : network -> training and held-out loss.
    """

    subjects: tuple[str, ...]
    alignments: tuple[Alignment, ...]
    comparisons: tuple[PairedComparison, ...]
    curves: Mapping[str, TrainedNet]

    def r(self, network: str, roi: str, layer: str = "readout", timestep: int = -1) -> float:
        """One number of the table; ``timestep`` -1 is the last."""
        found = [a for a in self.alignments if (a.network, a.roi, a.layer) == (network, roi, layer)]
        return sorted(found, key=lambda a: a.timestep)[timestep].r

    def save(self, folder: Path) -> None:
        """``networks.json`` with all numbers, ``learning_curves.svg`` and ``profiles.svg``."""
        content = {
            "subjects": list(self.subjects),
            "alignments": [asdict(a) for a in self.alignments],
            "comparisons": [asdict(c) for c in self.comparisons],
        }
        text = json.dumps(content, indent=1) + "\n"
        replace_file(folder / "networks.json", lambda file: file.write(text.encode()))
        losses = {name: (net.train_loss, net.held_out_loss) for name, net in self.curves.items()}
        pictures = {"learning_curves.svg": learning_curves_svg(losses), "profiles.svg": profiles_svg(self.alignments)}
        for name, picture in pictures.items():
            replace_file(folder / name, lambda file, picture=picture: file.write(picture.encode()))  # type: ignore[misc]


def compare_networks(
    data: CaptionsData,
    embedding: NDArray[np.floating],
    protocol: Protocol,
    folder: Path,
    *,
    preset: str = "tiny",
    seed: int = 0,
    n_epochs: int | None = None,
    device: torch.device | str = "cpu",
    progress: TrainingProgress = lambda epoch, total, train, held_out: None,
) -> NetworkComparison:
    """Train the two networks (or go on with those in ``folder``) and compare them with every subject.

    Parameters
    ----------
    embedding : (n_images, n_features) of ``data.images``: a model's caption embeddings, one layer.
    preset : ``tiny`` for a CPU, ``protocol`` for a GPU.
    seed : of weights and order; the published study trains ten.
    """
    train_rows = np.flatnonzero(~np.isin(data.images.ids, data.test_ids))
    test_rows = data.images.rows(data.test_ids)
    pixels, tested = (data.pixels(data.images.ids[rows]) for rows in (train_rows, test_rows))
    scaled, embedding_test = standardise(embedding[train_rows], embedding[test_rows])
    shown = data.images.categories[:, data.images.categories[train_rows].any(axis=0)]
    if not shown.shape[1]:
        raise DataError(f"{data.name} has no categories: there is nothing to train the control to")
    caption_plan = training_plan(preset, "caption", seed, n_epochs)
    category_plan = training_plan(preset, "category", seed, n_epochs)
    nets = {
        "caption-trained": train_net(
            pixels, scaled, caption_plan, folder / "caption", device=device, progress=progress
        ),
        "category-trained": train_net(
            pixels,
            shown[train_rows].astype(np.float32),
            category_plan,
            folder / "category",
            device=device,
            progress=progress,
        ),
    }
    features = {name: net_features(net.net, tested, device) for name, net in nets.items()}
    features["untrained"] = net_features(untrained_net(caption_plan, scaled.shape[1]), tested, device)
    names = layer_names(nets["caption-trained"].net.size)
    places = {
        (network, names[layer], time): table
        for network, found in features.items()
        for (layer, time), table in found.items()
    }
    places[EMBEDDING, "readout", 0] = embedding_test.astype(np.float32)
    alignments = align(places, data, protocol)
    last = max(a.timestep for a in alignments)
    finals = [a for a in alignments if a.layer == "readout" and (a.timestep == last or a.network == EMBEDDING)]
    scores = {
        name: np.array(
            [a.by_subject for roi in data.scored_rois for a in finals if (a.network, a.roi) == (name, roi)]
        ).T
        for name in (*NETWORKS, EMBEDDING)
    }
    comparisons = paired_comparisons(scores, data.scored_rois) if len(data.subjects) > 1 else ()
    return NetworkComparison(data.subjects, alignments, comparisons, nets)


def align(
    places: Mapping[tuple[str, str, int], NDArray[np.floating]], data: CaptionsData, protocol: Protocol
) -> tuple[Alignment, ...]:
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
            Alignment(network, layer, time, roi, float(r[:, i].mean()), tuple(r[:, i].tolist()))
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
    train_rows = np.flatnonzero(~np.isin(data.images.ids, data.test_ids))
    train, test = (model(data.pixels(ids)) for ids in (data.images.ids[train_rows], data.test_ids))
    places: dict[tuple[str, str, int], NDArray[np.floating]] = {}
    for layer in layers or list(train):
        places[name, layer, 0] = test[layer]
        read = caption_space_readout(train[layer], embedding[train_rows], test[layer], protocol)
        places[f"{name}, read out", layer, 0] = read
    return places


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m voxelboard.benchmark.tasks.caption_networks``: train, compare, write numbers and pictures."""
    import argparse
    import sys

    from voxelboard.benchmark.environment import Stopwatch
    from voxelboard.benchmark.features.store import FeatureStore, default_store_folder
    from voxelboard.benchmark.protocol import load_protocol
    from voxelboard.benchmark.readers.registry import open_dataset
    from voxelboard.benchmark.settings import Settings
    from voxelboard.benchmark.submission import load_submission
    from voxelboard.benchmark.tasks.base import RunContext
    from voxelboard.benchmark.tasks.caption_sources import open_caption_sources

    parser = argparse.ArgumentParser(description="Train networks from pictures into caption space and compare them.")
    parser.add_argument(
        "-m", "--model", default="planted-q0.9", help="submission whose caption embeddings are the target"
    )
    parser.add_argument("--layer", type=int, default=-1, help="layer of the embeddings")
    parser.add_argument("--data", default="simulated-captions")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the run; it resumes there")
    asked = parser.parse_args(arguments)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if asked.device == "auto" else asked.device
    settings = Settings(load_protocol("v1"))
    context = RunContext(settings, FeatureStore(default_store_folder()), torch.device(device), Stopwatch())
    data = open_dataset(asked.data, "captions")
    embeddings = open_caption_sources(load_submission(asked.model), data, context).embeddings
    embedding = embeddings.layer(range(embeddings.n_layers)[asked.layer])

    def report(epoch: int, total: int, train: float, held_out: float) -> None:
        sys.stderr.write(f"epoch {epoch}/{total}: loss {train:.4f}, held out {held_out:.4f}\n")

    found = compare_networks(
        data,
        embedding,
        settings.protocol,
        asked.output,
        preset=asked.preset,
        seed=asked.seed,
        n_epochs=asked.epochs,
        device=context.device,
        progress=report,
    )
    found.save(asked.output)
    for roi in data.scored_rois:
        line = "  ".join(f"{name} {found.r(name, roi):.3f}" for name in (*NETWORKS, EMBEDDING))
        sys.stdout.write(f"{roi}: {line}\n")


if __name__ == "__main__":
    main()
