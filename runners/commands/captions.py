# SPDX-License-Identifier: Apache-2.0
"""``voxelboard captions``: maps over subjects, and networks from pictures into caption space, beside the board."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxelboard.benchmark.errors import UserError
from voxelboard.runners.console import put, put_json, put_table, say
from voxelboard.runners.options import Device, Json, Offline, Quiet

if TYPE_CHECKING:
    from voxelboard.benchmark.readers.captions_data import CaptionsData
    from voxelboard.benchmark.submission import Submission
    from voxelboard.benchmark.tasks.base import RunContext
    from voxelboard.benchmark.tasks.caption_maps import GroupMaps

captions_app = typer.Typer(
    help="Task captions beside the board: searchlight, contrasts from text, networks from pictures to captions.",
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
Folder = Annotated[
    Path,
    typer.Option("-o", "--output", envvar="VOXELBOARD_ANALYSIS", help="Folder of the results.", file_okay=False),
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
    output: Folder = Path("captions"),
    device: Device = "auto",
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """RSA of whole captions, and beyond controls, in a sphere around every voxel, tested over subjects.

    The simulated brain is small: give it --radius 2. Writes searchlight.npz (maps) and searchlight.json (tests).
    """
    from voxelboard.benchmark.tasks.caption_maps import searchlight_maps

    submission, opened, context = _open(model, data, device, offline=offline, quiet=quiet)
    controls = control or ["word average"]
    found = searchlight_maps(
        submission, opened, context, layer=layer, controls=controls, radius=radius, min_share=min_share
    )
    _show(found, output, "searchlight", as_json=as_json)


@captions_app.command()
def contrasts(
    model: Model = "planted-q0.9",
    data: Data = "simulated-captions",
    layer: Layer = None,
    output: Folder = Path("captions"),
    device: Device = "auto",
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """What sentences of people, places and food alone predict in each brain, tested over subjects.

    Writes contrasts.npz (maps) and contrasts.json (tests).
    """
    from voxelboard.benchmark.tasks.caption_maps import contrast_group_maps

    submission, opened, context = _open(model, data, device, offline=offline, quiet=quiet)
    _show(contrast_group_maps(submission, opened, context, layer=layer), output, "contrasts", as_json=as_json)


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
    output: Folder = Path("captions/networks"),
    device: Device = "auto",
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train networks from pictures to captions and to categories, and compare them with the brain and with untrained ones.

    Layer by layer, timestep by timestep, on pictures that no network saw; intervals are over images and seeds. Checkpoints are
    kept after every epoch: the same command resumes.
    """
    from voxelboard.benchmark.tasks.caption_maps import encoding_layer
    from voxelboard.benchmark.tasks.caption_networks import EMBEDDING, NETWORKS, compare_networks
    from voxelboard.benchmark.tasks.caption_sources import open_caption_sources

    submission, opened, context = _open(model, data, device, offline=offline, quiet=quiet)
    embeddings = open_caption_sources(submission, opened, context).embeddings
    chosen = encoding_layer(embeddings, opened, context) if layer is None else layer

    def report(seed: int, network: str, epoch: int, total: int, train: float, held_out: float) -> None:
        if not quiet:
            say(f"seed {seed}, {network}, epoch {epoch}/{total}: loss {train:.4f}, held out {held_out:.4f}")

    found = compare_networks(
        opened,
        embeddings.layer(chosen),
        context.protocol,
        output,
        preset=preset,
        seeds=range(seeds),
        n_epochs=epochs,
        device=context.device,
        progress=report,
    )
    found.save(output)
    first = NETWORKS[0]
    rows = []
    for roi in opened.scored_rois:
        apart = [found.difference(first, other, roi) for other in NETWORKS[1:]]
        cells = [f"{d.difference:+.3f} [{d.low:+.3f}, {d.high:+.3f}]" for d in apart]
        rows.append((roi, *(f"{found.r(name, roi):.3f}" for name in (*NETWORKS, EMBEDDING)), *cells))
    if as_json:
        put_json({"layer": chosen, "differences": [vars(d) for d in found.differences], "folder": str(output)})
        return
    put_table(("region", *NETWORKS, EMBEDDING, "caption - category", "caption - untrained"), rows, right=(1, 2, 3, 4))
    put(f"layer {chosen} of {submission.label}; RSA r of readouts; results: {output}")


@captions_app.command()
def vision(
    network: Annotated[str, typer.Argument(help="Image encoder: a checkpoint folder, hub id, or timm/NAME.")],
    model: Model = "planted-q0.9",
    data: Data = "simulated-captions",
    layer: Layer = None,
    output: Folder = Path("captions"),
    device: Device = "auto",
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare every layer of a vision model with the brain, as it is and read out linearly into caption space.

    Writes vision.json.
    """
    import json
    from dataclasses import asdict

    from voxelboard.benchmark.atomic import replace_file
    from voxelboard.benchmark.models.vision import load_vision_model
    from voxelboard.benchmark.tasks.caption_maps import encoding_layer
    from voxelboard.benchmark.tasks.caption_networks import align, vision_places
    from voxelboard.benchmark.tasks.caption_sources import open_caption_sources

    submission, opened, context = _open(model, data, device, offline=offline, quiet=quiet)
    reader = load_vision_model(network, device=context.device, offline=offline)
    embeddings = open_caption_sources(submission, opened, context).embeddings
    chosen = encoding_layer(embeddings, opened, context) if layer is None else layer
    places = vision_places(network, reader, opened, embeddings.layer(chosen), context.protocol)
    found = align(places, opened, context.protocol)
    content = {"subjects": list(opened.subjects), "layer": chosen, "alignments": [asdict(a) for a in found]}
    text = json.dumps(content, indent=1) + "\n"
    replace_file(output / "vision.json", lambda file: file.write(text.encode()))
    if as_json:
        put_json(content)
        return
    by_place = {
        (a.network, a.layer): [b.r for b in found if (b.network, b.layer) == (a.network, a.layer)] for a in found
    }
    rows = [(name, place, *(f"{r:.3f}" for r in values)) for (name, place), values in by_place.items()]
    put_table(("network", "layer", *opened.scored_rois), rows, right=range(2, 2 + len(opened.scored_rois)))
    put(f"results: {output / 'vision.json'}")


def _open(
    model: str, data: str, device: str, *, offline: bool, quiet: bool
) -> "tuple[Submission, CaptionsData, RunContext]":
    from voxelboard.benchmark.environment import Stopwatch
    from voxelboard.benchmark.evaluate import choose_device
    from voxelboard.benchmark.features.store import FeatureStore, default_store_folder
    from voxelboard.benchmark.protocol import load_protocol
    from voxelboard.benchmark.readers.registry import open_dataset
    from voxelboard.benchmark.settings import Settings
    from voxelboard.benchmark.submission import load_submission
    from voxelboard.benchmark.tasks.base import RunContext

    def progress(stage: str, done: int, total: int) -> None:
        if not quiet and total and done < total and stage in ("layer", "searchlight", "contrasts"):
            say(f"[{done + 1}/{total}] {stage}")

    settings = Settings(protocol=load_protocol("v1"), device=device, offline=offline)
    context = RunContext(settings, FeatureStore(default_store_folder()), choose_device(device), Stopwatch(), progress)
    opened: CaptionsData = open_dataset(data, "captions")
    if not len(opened.subjects):
        raise UserError(f"{data} has no subjects")
    return load_submission(model), opened, context


def _show(found: "GroupMaps", output: Path, name: str, *, as_json: bool) -> None:
    found.save(output, name)
    if as_json:
        put_json({"layer": found.layer, "tests": [vars(test) for test in found.tests], "folder": str(output)})
        return
    rows = [
        (
            test.map,
            test.roi,
            f"{test.mean:+.3f}",
            "" if test.adjusted is None else f"{test.adjusted:.1e}",
            "" if test.significant is None else f"{test.significant:.0%} of {test.n_voxels}",
        )
        for test in found.tests
    ]
    put_table(("map", "region", "mean", "adjusted p", "significant voxels"), rows, right=(2, 3, 4))
    put(f"layer {found.layer}, {len(found.subjects)} subjects; results: {output / name}.json, .npz")
