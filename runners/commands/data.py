# SPDX-License-Identifier: Apache-2.0
"""``voxelboard data list|fetch|add|verify|ceilings|path|card``: data sets on this machine, with licence and checksums."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxelboard.runners.console import put, put_json, put_table, say
from voxelboard.runners.options import Json, Offline, Quiet, complete_dataset

if TYPE_CHECKING:
    from voxelboard.runners.fetching.fetch import FetchPlan

data_app = typer.Typer(
    help="Data sets: list them, fetch them, say where they lie, check their bytes.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="Name of a data set.", autocompletion=complete_dataset)]
SomeSubjects = Annotated[
    list[str] | None,
    typer.Option(
        "--subjects",
        "--subject",
        envvar="VOXELBOARD_SUBJECTS",
        help="Only the files of these subjects, comma-separated. [default: all]",
    ),
]
SomeStories = Annotated[
    list[str] | None,
    typer.Option(
        "--stories",
        "--story",
        envvar="VOXELBOARD_STORIES",
        help="Only the files of these stories, comma-separated. A run needs all of its split.",
    ),
]


@data_app.command("list")
def list_data(
    as_json: Json = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", envvar="VOXELBOARD_MARKDOWN", help="The table of the documentation.")
    ] = False,
) -> None:
    """The data sets, and which of them are on this machine."""
    from voxelboard.runners.card_table import cards_markdown

    if markdown:
        put(cards_markdown())
        return
    put_datasets(as_json)


@data_app.command()
def fetch(
    name: Name,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", envvar="VOXELBOARD_DATA_TO", help="Folder for the files. [default: ~/.voxelboard/data/NAME]"
        ),
    ] = None,
    subjects: SomeSubjects = None,
    stories: SomeStories = None,
    accept_terms: Annotated[
        bool,
        typer.Option(
            "--accept-terms",
            envvar="VOXELBOARD_ACCEPT_TERMS",
            help="Accept the terms of the data set without being asked.",
        ),
    ] = False,
    n_at_once: Annotated[
        int, typer.Option("-j", "--jobs", min=1, max=32, envvar="VOXELBOARD_DATA_JOBS", help="Downloads at a time.")
    ] = 4,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", envvar="VOXELBOARD_DRY_RUN", help="Say what would come, and how large it is.")
    ] = False,
    offline: Offline = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Download a data set from its public source: licence first, resumed where it stopped, every checksum compared."""
    from functools import partial

    from voxelboard.benchmark.readers.cards import load_card
    from voxelboard.runners.fetching.fetch import default_folder, plan_fetch
    from voxelboard.runners.fetching.fetch import fetch as run_fetch
    from voxelboard.runners.fetching.show import show_progress

    base, _, variant = name.partition(":")
    card = load_card(base)
    if variant and not quiet:
        say(f"the files of {base} serve all its variants; --subjects and --stories choose a part of them")
    folder = (to.expanduser().resolve() if to else default_folder(base)).absolute()
    plan = plan_fetch(card, folder, _names(subjects), _names(stories), offline=offline)
    _say_plan(plan)
    if not dry_run:
        run_fetch(plan, accept=accept_terms, n_at_once=n_at_once, reporter=partial(show_progress, quiet=quiet))
        if not quiet:
            say(f"all {len(plan.files)} files are as the card says; cite:\n{card.citation.bibtex.strip()}")
    if as_json:
        put_json(
            {
                "folder": str(folder),
                "n_files": len(plan.files),
                "n_missing": len(plan.missing),
                "n_bytes": plan.n_bytes,
                "n_of_unknown_size": plan.n_unknown,
                "missing": [{"path": i.file.path, "n_bytes": i.file.n_bytes, "url": i.file.url} for i in plan.missing],
            }
        )
    elif dry_run:
        sizes = [(i.file.path, "unknown" if i.file.n_bytes is None else str(i.file.n_bytes)) for i in plan.missing]
        put_table(("file", "bytes"), sizes, right=(1,))
    else:
        put(str(folder))


@data_app.command()
def add(
    name: Name,
    path: Annotated[Path, typer.Option("--from", envvar="VOXELBOARD_DATA_FROM", help="Folder that holds its files.")],
) -> None:
    """Say where a data set lies. Its licence is shown, and every file is checked against the card."""
    from voxelboard.benchmark.readers.card_files import files_here
    from voxelboard.benchmark.readers.cards import load_card
    from voxelboard.benchmark.readers.registry import add_dataset
    from voxelboard.runners.fetching.show import show_verification

    card = load_card(name)
    say(f"{card.title}\nlicence: {card.licence.name}, {card.licence.url}")
    if card.terms:
        say(f"terms: {card.terms}")
    with show_verification(name) as progress:
        add_dataset(name, path, progress=progress)
    say(f"{len(files_here(card, path.expanduser()))} files are as the card says; cite:\n{card.citation.bibtex.strip()}")
    put(str(path.expanduser().resolve()))


@data_app.command()
def verify(name: Name, subjects: SomeSubjects = None, stories: SomeStories = None) -> None:
    """Check every file of a data set against the checksums of its card."""
    from voxelboard.benchmark.readers.card_files import files_here, verify_files
    from voxelboard.benchmark.readers.cards import load_card
    from voxelboard.benchmark.readers.registry import dataset_path
    from voxelboard.runners.fetching.show import show_verification

    card = load_card(name)
    if card.source.kind == "generated":
        put(f"{name} is generated from a seed: it has no files")
        return
    folder = dataset_path(name)
    with show_verification(name) as progress:
        verify_files(card, folder, progress, subjects=_names(subjects), stories=_names(stories))
    put(f"{name} {card.version}: {len(files_here(card, folder))} files are as the card says")


@data_app.command()
def ceilings(
    name: Annotated[
        str, typer.Argument(help="Name of a data set, or a folder of your own.", autocompletion=complete_dataset)
    ],
    subjects: SomeSubjects = None,
    extrapolated: Annotated[
        bool,
        typer.Option(
            "--extrapolated",
            envvar="VOXELBOARD_EXTRAPOLATED",
            help="Also the agreement with infinitely many others, of all subjects together; biased, for comparison.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """How predictable the responses are at best, as the data set's literature reports it: by subject and region."""
    from dataclasses import asdict

    from voxelboard.benchmark.readers.base import require_subject
    from voxelboard.benchmark.readers.registry import open_dataset
    from voxelboard.benchmark.tasks.literature_ceilings import extrapolated_ceilings, literature_ceilings

    data = open_dataset(name, "narrative")
    wanted = tuple(_names(subjects) or data.subjects)
    for subject in wanted:
        require_subject(data.name, subject, data.subjects)
    found = list(literature_ceilings(data, wanted))
    if extrapolated:
        found += extrapolated_ceilings(data, wanted)
    if as_json:
        put_json([asdict(row) for row in found])
        return
    rows = [
        (
            row.subject,
            row.roi,
            row.measure,
            "-" if row.value is None else f"{row.value:.3f}",
            "" if row.interval is None else f"[{row.interval.low:.3f}, {row.interval.high:.3f}]",
            str(row.n),
        )
        for row in found
    ]
    put_table(("subject", "region", "measure", "mean", "95 % interval", "n"), rows, right=(3, 5))


@data_app.command("path")
def show_path(name: Name) -> None:
    """Print where a data set lies on this machine."""
    from voxelboard.benchmark.readers.registry import dataset_path

    put(str(dataset_path(name)))


@data_app.command("card")
def show_card(name: Name) -> None:
    """Print the card of a data set as JSON: source, licence, checksums, split, citation."""
    from voxelboard.benchmark.readers.cards import load_card

    put_json(load_card(name).model_dump(mode="json"))


def put_datasets(as_json: bool) -> None:
    """Print all data sets and where they lie."""
    from voxelboard.benchmark.readers.cards import list_cards, load_card
    from voxelboard.benchmark.readers.registry import available_datasets, registered_datasets
    from voxelboard.runners.card_table import human_size

    here, folders = available_datasets(), registered_datasets()
    cards = [load_card(name) for name in list_cards()]

    def place(name: str) -> str:
        if name in folders:
            return str(folders[name]) if name in here else f"{folders[name]} (gone)"
        return "generated" if name in here else "not here"

    if as_json:
        put_json(
            [
                {
                    "name": card.name,
                    "version": card.version,
                    "title": card.title,
                    "kind": card.kind,
                    "task": card.task,
                    "licence": card.licence.name,
                    "n_bytes": card.n_bytes,
                    "can_be_fetched": card.can_be_fetched,
                    "available": card.name in here,
                    "path": str(folders[card.name]) if card.name in folders else None,
                }
                for card in cards
            ]
        )
        return
    rows = [
        (
            card.name,
            card.version,
            card.kind,
            card.task,
            str(len(card.subjects)),
            human_size(card.n_bytes),
            card.licence.name,
            place(card.name),
        )
        for card in cards
    ]
    put_table(("name", "version", "kind", "task", "subjects", "size", "licence", "where"), rows, right=(4, 5))


def _say_plan(plan: "FetchPlan") -> None:
    there = len(plan.files) - len(plan.missing)
    unknown = f" and {plan.n_unknown} files of unknown size" if plan.n_unknown else ""
    say(
        f"{plan.card.name}: {there}/{len(plan.files)} files are in {plan.folder}, "
        f"{plan.n_bytes / 1e6:.1f} MB{unknown} to come"
    )


def _names(given: list[str] | None) -> list[str] | None:
    names = [name.strip() for text in given or () for name in text.split(",") if name.strip()]
    return names or None
