# SPDX-License-Identifier: Apache-2.0
"""``voxelboard captions``: maps over subjects, and networks from pictures into caption space, beside the ranks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxelboard.benchmark.errors import UserError
from voxelboard.runners.console import put, put_json, put_table, say
from voxelboard.runners.options import DEFAULT_OUTPUT, Device, Json, Offline, Output, Quiet

if TYPE_CHECKING:
    from voxelboard.benchmark.caption_tables import Analysis, AnalysisStamp
    from voxelboard.benchmark.features.caption_embeddings import ImageEmbeddings
    from voxelboard.benchmark.readers.captions_data import CaptionsData
    from voxelboard.benchmark.submission import Submission
    from voxelboard.benchmark.tasks.base import RunContext
    from voxelboard.benchmark.tasks.caption_maps import GroupMaps

captions_app = typer.Typer(
    help="Task captions beside the ranks: searchlight, contrasts from text, decoding, networks from pictures to captions. Results go to "
    "studies/captions/MODEL--DATA in the folder of records (--output), and `voxelboard render` shows them on a page of their own.",
    no_args_is_help=True,
)

Model = Annotated[str, typer.Option("-m", "--model", envvar="VOXELBOARD_MODEL", help="Submission that reads captions.")]
Data = Annotated[str, typer.Option("--data", envvar="VOXELBOARD_DATA", help="Data set of the task captions.")]
Layer = Annotated[
    int | None,
    typer.Option(
        "--layer",
        envvar="VOXELBOARD_LAYER",
        help="Layer of the embeddings. [default: the one that encodes the training images best]",
        show_default=False,
    ),
]


@captions_app.command()
def searchlight(
    model: Model = "planted-q0.9",
    data: Data = "simulated-captions",
    layer: Layer = None,
    control: Annotated[
        list[str] | None,
        typer.Option("--control", envvar="VOXELBOARD_CONTROL", help="Control to set captions against; several times."),
    ] = None,
    radius: Annotated[
        float, typer.Option("--radius", envvar="VOXELBOARD_RADIUS", min=1.0, help="Voxels; strictly closer is inside.")
    ] = 6.0,
    min_share: Annotated[
        float,
        typer.Option("--min-share", envvar="VOXELBOARD_MIN_SHARE", min=0.0, max=1.0, help="Of a sphere in the mask."),
    ] = 0.5,
    output: Output = DEFAULT_OUTPUT,
    device: Device = "auto",
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """RSA of whole captions, and beyond controls, in a sphere around every voxel, tested over subjects.

    The simulated brain is small: give it --radius 2. Writes searchlight.npz (maps) and searchlight.json (tests).
    """
    from voxelboard.benchmark.tasks.caption_maps import searchlight_maps

    opened = _open(model, data, output, device, offline=offline, quiet=quiet)
    controls = control or ["word average"]
    found = searchlight_maps(
        opened.submission,
        opened.data,
        opened.context,
        layer=layer,
        controls=controls,
        radius=radius,
        min_share=min_share,
    )
    settings = {"radius": f"{radius:g} voxels", "in the mask": f"{min_share:.0%} or more"}
    _show(found, opened, opened.stamp("searchlight", found.layer, settings), as_json=as_json)


@captions_app.command()
def contrasts(
    model: Model = "planted-q0.9",
    data: Data = "simulated-captions",
    layer: Layer = None,
    output: Output = DEFAULT_OUTPUT,
    device: Device = "auto",
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """What sentences of people, places and food alone predict in each brain, tested over subjects.

    Writes contrasts.npz (maps) and contrasts.json (tests).
    """
    from voxelboard.benchmark.tasks.caption_maps import contrast_group_maps

    opened = _open(model, data, output, device, offline=offline, quiet=quiet)
    found = contrast_group_maps(opened.submission, opened.data, opened.context, layer=layer)
    _show(found, opened, opened.stamp("contrasts", found.layer, {}), as_json=as_json)


@captions_app.command()
def decoding(
    model: Model = "planted-q0.9",
    data: Data = "simulated-captions",
    layer: Layer = None,
    library: Annotated[
        Path | None,
        typer.Option(
            "--library",
            envvar="VOXELBOARD_LIBRARY",
            help="Captions to look up, one a line; millions are fine. [default: those of the training images]",
            show_default=False,
            dir_okay=False,
        ),
    ] = None,
    output: Output = DEFAULT_OUTPUT,
    device: Device = "auto",
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """From each brain to the embedding of what was seen, and to the captions of a library nearest to it.

    Ranks of the true caption, the ceiling of decoding, and examples. Writes decoding.json; the embedded library is kept.
    """
    from voxelboard.benchmark.caption_tables import AnalysisTables
    from voxelboard.benchmark.tasks.caption_decoding import decode_captions, read_captions

    captions = None if library is None else read_captions(library)
    opened = _open(model, data, output, device, offline=offline, quiet=quiet)
    found = decode_captions(
        opened.submission, opened.data, opened.context, opened.folder, layer=layer, library=captions
    )
    source = "captions of the training images" if library is None else library.name
    settings = {"library": f"{found.n_library:,} captions ({source})"}
    path = opened.folder / "decoding.json"
    tables = AnalysisTables(opened.stamp("decoding", found.layer, settings), scores=found.scores, images=found.images)
    tables.save(path)
    if as_json:
        put_json({"layer": found.layer, "scores": [vars(one) for one in found.scores], "file": str(path)})
        return
    names = list(dict.fromkeys(score.name for score in found.scores))
    rows = [
        (name, *("" if one.estimate is None else f"{one.estimate:.3f}" for one in found.scores if one.name == name))
        for name in names
    ]
    subjects = opened.data.subjects
    put_table(("score", *subjects), rows, right=range(1, 1 + len(subjects)))
    put_table(
        ("image", "place", "rank in library", "was said", "decoded"),
        [(str(i.image), str(i.quality_rank), f"{i.candidate_rank:g}", i.said, i.nearest[0]) for i in found.images],
        right=(0, 1, 2),
    )
    put(f"layer {found.layer}, {found.n_library:,} captions searched; results: {path}")


@captions_app.command()
def networks(
    model: Model = "planted-q0.9",
    data: Data = "simulated-captions:networks",
    layer: Layer = None,
    preset: Annotated[
        str, typer.Option("--preset", envvar="VOXELBOARD_PRESET", help="tiny for a CPU, protocol for a GPU.")
    ] = "tiny",
    seeds: Annotated[int, typer.Option("--seeds", envvar="VOXELBOARD_SEEDS", min=1, help="Networks of each kind.")] = 3,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs", envvar="VOXELBOARD_EPOCHS", min=1, help="[default: of the preset]", show_default=False
        ),
    ] = None,
    output: Output = DEFAULT_OUTPUT,
    device: Device = "auto",
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train networks from pictures to captions and to categories, and compare them with the brain and with untrained ones.

    Layer by layer, timestep by timestep, on pictures that no network saw; intervals are over images and seeds. Checkpoints are
    kept after every epoch (in networks/, beside networks.json): the same command resumes.
    """
    from voxelboard.benchmark.tasks.caption_networks import EMBEDDING, NETWORKS, compare_networks

    opened = _open(model, data, output, device, offline=offline, quiet=quiet)
    embeddings, chosen = opened.embedded(layer)
    folder = opened.folder / "networks"

    def report(seed: int, network: str, epoch: int, total: int, train: float, held_out: float) -> None:
        if not quiet:
            say(f"seed {seed}, {network}, epoch {epoch}/{total}: loss {train:.4f}, held out {held_out:.4f}")

    found = compare_networks(
        opened.data,
        embeddings.layer(chosen),
        opened.context.protocol,
        folder,
        preset=preset,
        seeds=range(seeds),
        n_epochs=epochs,
        device=opened.context.device,
        progress=report,
    )
    trained = {"preset": preset, "epochs": str(found.n_epochs), "networks of each kind": str(seeds)}
    found.save(folder, opened.stamp("networks", chosen, trained))
    first = NETWORKS[0]
    rows = []
    for roi in opened.data.scored_rois:
        apart = [found.difference(first, other, roi) for other in NETWORKS[1:]]
        cells = [f"{d.difference:+.3f} [{d.low:+.3f}, {d.high:+.3f}]" for d in apart]
        rows.append((roi, *(f"{found.r(name, roi):.3f}" for name in (*NETWORKS, EMBEDDING)), *cells))
    if as_json:
        put_json({"layer": chosen, "differences": [vars(d) for d in found.differences], "folder": str(folder)})
        return
    put_table(("region", *NETWORKS, EMBEDDING, "caption - category", "caption - untrained"), rows, right=(1, 2, 3, 4))
    put(f"layer {chosen} of {opened.submission.label}; RSA r of readouts; results: {folder}")


@captions_app.command()
def vision(
    network: Annotated[str, typer.Argument(help="Image encoder: a checkpoint folder, hub id, or timm/NAME.")],
    model: Model = "planted-q0.9",
    data: Data = "simulated-captions",
    layer: Layer = None,
    output: Output = DEFAULT_OUTPUT,
    device: Device = "auto",
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare every layer of a vision model with the brain, as it is and read out linearly into caption space.

    Writes vision-NETWORK.json.
    """
    from voxelboard.benchmark.caption_tables import AnalysisTables
    from voxelboard.benchmark.models.vision import load_vision_model
    from voxelboard.benchmark.records import slug
    from voxelboard.benchmark.tasks.caption_networks import align, vision_places

    opened = _open(model, data, output, device, offline=offline, quiet=quiet)
    protocol, rois = opened.context.protocol, opened.data.scored_rois
    reader = load_vision_model(network, device=opened.context.device, offline=offline)
    embeddings, chosen = opened.embedded(layer)
    name = network if not Path(network).is_dir() else Path(network).name  # a path says where, not what
    found = align(vision_places(name, reader, opened.data, embeddings.layer(chosen), protocol), opened.data, protocol)
    path = opened.folder / f"vision-{slug(name)}.json"
    AnalysisTables(opened.stamp("vision", chosen, {"image encoder": name}), alignments=found).save(path)
    if as_json:
        put_json({"layer": chosen, "alignments": [vars(one) for one in found], "file": str(path)})
        return
    by_place = {
        (a.network, a.layer): [b.r for b in found if (b.network, b.layer) == (a.network, a.layer)] for a in found
    }
    rows = [(name, place, *(f"{r:.3f}" for r in values)) for (name, place), values in by_place.items()]
    put_table(("network", "layer", *rois), rows, right=range(2, 2 + len(rois)))
    put(f"results: {path}")


@dataclass(frozen=True)
class _Opened:
    """What all analyses start from; ``folder`` takes their results."""

    submission: "Submission"
    data: "CaptionsData"
    context: "RunContext"
    folder: Path

    def embedded(self, layer: int | None) -> "tuple[ImageEmbeddings, int]":
        """The embeddings of all images, and the layer that was asked for or encodes the training images best."""
        from voxelboard.benchmark.tasks.caption_maps import encoding_layer
        from voxelboard.benchmark.tasks.caption_sources import open_caption_sources

        embeddings = open_caption_sources(self.submission, self.data, self.context).embeddings
        return embeddings, encoding_layer(embeddings, self.data, self.context) if layer is None else layer

    def stamp(self, analysis: "Analysis", layer: int, settings: Mapping[str, str]) -> "AnalysisStamp":
        from voxelboard.benchmark.tasks.caption_sources import analysis_stamp

        return analysis_stamp(analysis, self.submission, self.data, self.context, layer, settings)


def _open(model: str, data: str, output: Path, device: str, *, offline: bool, quiet: bool) -> _Opened:
    from voxelboard.benchmark.caption_tables import FOLDER
    from voxelboard.benchmark.environment import Stopwatch
    from voxelboard.benchmark.evaluate import choose_device
    from voxelboard.benchmark.features.store import FeatureStore, default_store_folder
    from voxelboard.benchmark.protocol import load_protocol
    from voxelboard.benchmark.readers.registry import open_dataset
    from voxelboard.benchmark.records import STUDIES, slug
    from voxelboard.benchmark.settings import Settings
    from voxelboard.benchmark.submission import load_submission
    from voxelboard.benchmark.tasks.base import RunContext

    def progress(stage: str, done: int, total: int) -> None:
        if (
            not quiet
            and total
            and done < total
            and stage in ("layer", "searchlight", "contrasts", "decoding", "library")
        ):
            say(f"[{done + 1}/{total}] {stage}")

    settings = Settings(protocol=load_protocol("v1"), device=device, offline=offline)
    context = RunContext(settings, FeatureStore(default_store_folder()), choose_device(device), Stopwatch(), progress)
    opened: CaptionsData = open_dataset(data, "captions")
    if not len(opened.subjects):
        raise UserError(f"{data} has no subjects")
    submission = load_submission(model)
    folder = output / STUDIES / FOLDER / f"{slug(submission.label)}--{slug(opened.name)}"
    return _Opened(submission, opened, context, folder)


def _show(found: "GroupMaps", opened: _Opened, stamp: "AnalysisStamp", *, as_json: bool) -> None:
    found.save(opened.folder, stamp)
    if as_json:
        put_json({"layer": found.layer, "tests": [vars(test) for test in found.tests], "folder": str(opened.folder)})
        return
    rows = [
        (
            test.map,
            test.roi,
            f"{test.mean:+.3f}",
            "" if test.low is None or test.high is None else f"[{test.low:+.3f}, {test.high:+.3f}]",
            "" if test.adjusted is None else f"{test.adjusted:.1e}",
            "" if test.significant is None else f"{test.significant:.0%} of {test.n_voxels}",
        )
        for test in found.tests
    ]
    put_table(("map", "region", "mean", "95 %", "adjusted p", "significant voxels"), rows, right=(2, 3, 4, 5))
    place = opened.folder / stamp.analysis
    put(f"layer {found.layer}, {len(found.subjects)} subjects; results: {place}.json, .npz")
