# SPDX-License-Identifier: Apache-2.0
"""The flags that several verbs share. Each has its ``VOXELBOARD_*`` variable."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_TASK = "narrative"


def complete_submission(incomplete: str) -> list[str]:
    """Names of the shipped submissions, from their file names: completion loads nothing."""
    from voxelboard._resources import entries_folder

    names = [path.stem.replace("__", "/", 1) for path in sorted(entries_folder().glob("*.yaml"))]
    return [name for name in ("demo", "all", *names) if name.startswith(incomplete)]


def complete_dataset(incomplete: str) -> list[str]:
    """Names of the data set cards, from their file names."""
    from voxelboard._resources import cards_folder

    return [path.stem for path in sorted(cards_folder().glob("*.yaml")) if path.stem.startswith(incomplete)]


Models = Annotated[
    list[str] | None,
    typer.Option(
        "-m",
        "--model",
        envvar="VOXELBOARD_MODEL",
        autocompletion=complete_submission,
        help="A submission by name, a YAML file, a checkpoint folder, `demo` or `all`. May be given several times. "
        "[default: demo]",
        show_default=False,
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "-t",
        "--task",
        "--tasks",
        envvar="VOXELBOARD_TASKS",
        help=f"Task. May be given several times. [default: that of --data, or {DEFAULT_TASK}]",
        show_default=False,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        envvar="VOXELBOARD_DATA",
        autocompletion=complete_dataset,
        help="Data set. [default: the simulated one of each task]",
        show_default=False,
    ),
]
Subjects = Annotated[
    list[str] | None,
    typer.Option(
        "--subjects",
        "--subject",
        envvar="VOXELBOARD_SUBJECTS",
        help="Only these subjects, comma-separated or given several times. [default: all]",
        show_default=False,
    ),
]
Output = Annotated[
    Path,
    typer.Option("-o", "--output", envvar="VOXELBOARD_OUTPUT", help="Folder of the records.", file_okay=False),
]
ProtocolName = Annotated[
    str, typer.Option("--protocol", envvar="VOXELBOARD_PROTOCOL", help="Frozen protocol of the measurement.")
]
Json = Annotated[bool, typer.Option("--json", envvar="VOXELBOARD_JSON", help="Print the result as JSON.")]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", envvar="VOXELBOARD_VERBOSE", help="Say more, with tracebacks of failures.")
]
Quiet = Annotated[bool, typer.Option("--quiet", envvar="VOXELBOARD_QUIET", help="Say nothing but results and errors.")]
Offline = Annotated[
    bool, typer.Option("--offline", envvar="VOXELBOARD_OFFLINE", help="Never use the network: what is cached runs.")
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        envvar="VOXELBOARD_LIMIT",
        min=1,
        help="Train on only so many stories, for a quick look. Stored apart, marked partial, never ranked.",
    ),
]
Device = Annotated[str, typer.Option("--device", envvar="VOXELBOARD_DEVICE", help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        envvar="VOXELBOARD_DTYPE",
        help="float32, bfloat16 or float16 instead of the submission's.",
        show_default=False,
    ),
]
BatchSize = Annotated[
    str, typer.Option("-b", "--batch-size", envvar="VOXELBOARD_BATCH_SIZE", help="Sequences in a pass, or auto.")
]
Fresh = Annotated[
    bool, typer.Option("--fresh/--resume", envvar="VOXELBOARD_FRESH", help="Run stored cells again, or keep them.")
]
Features = Annotated[
    list[str] | None,
    typer.Option(
        "--features",
        envvar="VOXELBOARD_FEATURES",
        help="Of the task narrative, beside the states: `attributions`, or some of its methods, comma-separated "
        "(gradient_norm, integrated_gradients, erasure_mask, attention, conductance, ...). They leave the score as it is.",
        show_default=False,
    ),
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        envvar="VOXELBOARD_TRUST_REMOTE_CODE",
        help="Run a repository's own Python code, if its submission pins it as well.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", envvar="VOXELBOARD_DRY_RUN", help="Only say what would be run.")]
Runner = Annotated[
    str,
    typer.Option(
        "--runner",
        envvar="VOXELBOARD_RUNNER",
        help="local: each model in a process of its own. inline: all in this process. slurm: jobs of a cluster.",
    ),
]
NWorkers = Annotated[
    str,
    typer.Option(
        "--workers",
        envvar="VOXELBOARD_WORKERS",
        help="Processes at a time, or auto: one for each GPU, or as many as there are cores.",
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        envvar="VOXELBOARD_TIMEOUT",
        min=0.01,
        help="Minutes after which a process is stopped and its cells fail. [default: none]",
        show_default=False,
    ),
]
Isolation = Annotated[
    bool,
    typer.Option(
        "--isolation/--no-isolation",
        envvar="VOXELBOARD_ISOLATION",
        help="Shut each model in: no network once its weights are here, no files but its own.",
    ),
]
Profile = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        envvar="VOXELBOARD_PROFILE",
        help="YAML file with partition, GPUs, time and memory of the cluster's jobs (--runner slurm).",
        show_default=False,
        dir_okay=False,
    ),
]
Render = Annotated[
    bool, typer.Option("--render/--no-render", envvar="VOXELBOARD_RENDER", help="Draw the board afterwards.")
]
Board = Annotated[
    Path, typer.Option("--board", envvar="VOXELBOARD_BOARD", help="Folder of the board.", file_okay=False)
]
OpenBoard = Annotated[
    bool, typer.Option("--open", envvar="VOXELBOARD_OPEN", help="Open the board in a browser afterwards.")
]

DEFAULT_OUTPUT = Path("results")
DEFAULT_BOARD = Path("board")


def split_names(values: list[str] | None) -> list[str] | None:
    """``["a,b", "c"]`` -> ``["a", "b", "c"]``; None and empty stay None."""
    names = [name.strip() for value in values or [] for name in value.split(",") if name.strip()]
    return names or None
