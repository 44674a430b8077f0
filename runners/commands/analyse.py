# SPDX-License-Identifier: Apache-2.0
"""``voxelboard analyse``: a researcher's own encoding analysis of a film data set, on any features."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxelboard.benchmark.errors import UserError
from voxelboard.runners.console import put, put_json, put_table, say
from voxelboard.runners.options import BatchSize, Device, Dtype, Json, Offline, Quiet, Subjects, split_names

if TYPE_CHECKING:
    from voxelboard.benchmark.settings import Settings
    from voxelboard.benchmark.tasks.film_config import AnalysisConfig

_HELP_LISTS = "May be given several times; the i-th of --name, --level, --model and --layers belong together."


def analyse(
    config: Annotated[
        Path | None,
        typer.Argument(help="A YAML file that says which features, regression and test.", show_default=False),
    ] = None,
    data: Annotated[
        str, typer.Option("--data", envvar="VOXELBOARD_DATA", help="Data set of the task drama.")
    ] = "simulated-drama",
    subjects: Subjects = None,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", envvar="VOXELBOARD_NAME", help=f"What to call a feature. {_HELP_LISTS}"),
    ] = None,
    level: Annotated[
        list[str] | None, typer.Option("--level", envvar="VOXELBOARD_LEVEL", help=f"Level of annotation. {_HELP_LISTS}")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("-m", "--model", envvar="VOXELBOARD_MODEL", help=f"Who reads it. {_HELP_LISTS}")
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layers", envvar="VOXELBOARD_LAYERS", help=f"all, best, or numbers with commas. {_HELP_LISTS}"),
    ] = None,
    regression: Annotated[
        str, typer.Option("--regression", envvar="VOXELBOARD_REGRESSION", help="mono or banded.")
    ] = "mono",
    delays: Annotated[
        tuple[int, int],
        typer.Option("--delays", envvar="VOXELBOARD_DELAYS", help="First and last shift in seconds, averaged over."),
    ] = (8, 10),
    reduce: Annotated[
        str, typer.Option("--reduce", envvar="VOXELBOARD_REDUCE", help="none, pca:1280 or srp:0.1.")
    ] = "none",
    n_iter: Annotated[
        int, typer.Option("--n-iter", envvar="VOXELBOARD_N_ITER", min=1, help="Draws of band weights.")
    ] = 100,
    permutation: Annotated[
        str, typer.Option("--permutation", envvar="VOXELBOARD_PERMUTATION", help="block or gauss.")
    ] = "block",
    block_trs: Annotated[
        int, typer.Option("--block", envvar="VOXELBOARD_BLOCK", min=1, help="TRs in a permuted block.")
    ] = 40,
    annotators: Annotated[
        str, typer.Option("--annotators", envvar="VOXELBOARD_ANNOTATORS", help="all, or the halves A and B.")
    ] = "all",
    window: Annotated[int, typer.Option("--window", envvar="VOXELBOARD_WINDOW", min=1, help="Seconds of text.")] = 1,
    save_predictions: Annotated[
        bool, typer.Option("--save-predictions", envvar="VOXELBOARD_SAVE_PREDICTIONS", help="Keep predictions.")
    ] = False,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", envvar="VOXELBOARD_ANALYSIS", help="Folder of the results.", file_okay=False),
    ] = Path("analysis"),
    device: Device = "auto",
    dtype: Dtype = None,
    batch_size: BatchSize = "auto",
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit features to films as Nakagi et al. 2024 do: one by one, or all at once with banded ridge.

    Give a CONFIG, or the same by flags. Every layer is a folder with cross-validated and test correlations, corrected
    p-values, weights and a histogram; what is finished is kept, so the same command resumes. docs/drama.md has examples.
    """
    if config is None:
        settings = {
            "regression": regression,
            "delays": {"seconds": tuple(float(second) for second in range(delays[0], delays[1] + 1))},
            "reduce": _reduce(reduce),
            "n_iter": n_iter,
            "permutation": {"kind": permutation, "block_trs": block_trs},
            "save_predictions": save_predictions,
        }
        asked = _from_flags(data, subjects, name, level, model, layers, settings, annotators, window)
        base = Path.cwd()
    else:
        asked, base = _read(config), config.resolve().parent
    _run(asked, base, output, _settings(device, dtype, batch_size, offline), as_json=as_json, quiet=quiet)


def _from_flags(
    data: str,
    subjects: list[str] | None,
    name: list[str] | None,
    level: list[str] | None,
    model: list[str] | None,
    layers: list[str] | None,
    settings: dict[str, object],
    annotators: str,
    window: int,
) -> "AnalysisConfig":
    from voxelboard.benchmark.tasks.film_config import from_lists

    return from_lists(
        data,
        tuple(split_names(subjects) or ()),
        name or [],
        level or [],
        model or [],
        layers or [],
        settings,
        {"annotators": annotators, "window_s": window},
    )


def _read(path: Path) -> "AnalysisConfig":
    from voxelboard.benchmark.strict_yaml import read_yaml, validate
    from voxelboard.benchmark.tasks.film_config import AnalysisConfig

    return validate(read_yaml(path), AnalysisConfig)


def _reduce(text: str) -> dict[str, object]:
    method, _, value = text.partition(":")
    try:
        if method == "pca" and value:
            return {"method": "pca", "n_components": int(value)}
        if method == "srp" and value:
            return {"method": "srp", "eps": float(value)}
    except ValueError:
        method = ""
    if method != "none" or value:
        raise UserError(f"--reduce {text!r}; allowed: none, pca:1280 (components), srp:0.1 (distortion)")
    return {"method": "none"}


def _settings(device: str, dtype: str | None, batch_size: str, offline: bool) -> "Settings":
    from voxelboard.benchmark.protocol import load_protocol
    from voxelboard.benchmark.settings import Settings

    return Settings(
        protocol=load_protocol("v1"),
        device=device,
        dtype=dtype,
        batch_size="auto" if batch_size == "auto" else int(batch_size),
        offline=offline,
    )


def _run(
    config: "AnalysisConfig", base: Path, output: Path, settings: "Settings", *, as_json: bool, quiet: bool
) -> None:
    from voxelboard.benchmark.evaluate import choose_device
    from voxelboard.benchmark.features.store import FeatureStore, default_store_folder
    from voxelboard.benchmark.readers.registry import open_dataset
    from voxelboard.benchmark.tasks.film_analysis import Analysis
    from voxelboard.benchmark.tasks.film_analysis import analyse as run_analysis

    def progress(stage: str, done: int, total: int) -> None:
        if not quiet and total:
            say(f"[{done + 1}/{total}] {stage}")

    analysis = Analysis(
        config=config,
        data=open_dataset(config.data, "drama"),
        output=output,
        base=base,
        settings=settings,
        store=FeatureStore(default_store_folder()),
        device=choose_device(settings.device),
        draw=_histogram,
        progress=progress,
    )
    rows, results = [], []
    for finished in run_analysis(analysis):
        summary = finished.summary
        results.append({"folder": str(finished.folder), "stored": finished.stored, **summary})
        cell = finished.folder.relative_to(output).as_posix()
        found = f"{summary['n_significant']}/{summary['n_voxels']}"
        rows.append(
            (cell, f"{summary['cv_top']:.4f}", f"{summary['cc_top']:.4f}", found, "kept" if finished.stored else "new")
        )
    if as_json:
        put_json({"cells": results})
        return
    put_table(("cell", "cv r, top voxels", "test r, top voxels", "significant", ""), rows, right=(1, 2, 3))
    put(f"results: {output}")


def _histogram(correlations: object) -> str:
    """The test correlations of all voxels as a picture that stands by itself."""
    import numpy as np

    from voxelboard.leaderboard.charts.distributions import voxel_histogram

    values = np.asarray(correlations, dtype=np.float64)
    edges = np.linspace(-1, 1, 81)
    counts = np.histogram(np.clip(values, -1, 1), bins=edges)[0]
    picture = str(voxel_histogram(edges.tolist(), {"test r": counts.tolist()}, None))
    style = (
        "<style>text{font:11px sans-serif;fill:#333}.hist{fill:#9db8d9;stroke:none}.edge{fill:none;stroke:#2b5c94}"
        ".ax,.r{stroke:#888}.e{text-anchor:end}.m{text-anchor:middle}</style>"
    )
    start = picture.index("<svg")
    opened = picture.index(">", start) + 1
    tag = picture[start:opened]
    if "xmlns" not in tag:
        tag = tag.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return tag + style + picture[opened : picture.rindex("</svg>") + 6] + "\n"
