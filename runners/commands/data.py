# SPDX-License-Identifier: Apache-2.0
"""``voxelboard data list|add|verify|path|card``: data sets on this machine, with licence and checksums."""

from pathlib import Path
from typing import Annotated

import typer

from voxelboard.runners.console import put, put_json, put_table, say
from voxelboard.runners.options import Json, complete_dataset

data_app = typer.Typer(help="Data sets: list them, say where they lie, check their bytes.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of a data set.", autocompletion=complete_dataset)]


@data_app.command("list")
def list_data(as_json: Json = False) -> None:
    """The data sets, and which of them are on this machine."""
    put_datasets(as_json)


@data_app.command()
def add(
    name: Name,
    path: Annotated[Path, typer.Option("--from", envvar="VOXELBOARD_DATA_FROM", help="Folder that holds its files.")],
) -> None:
    """Say where a data set lies. Its licence is shown, and every file is checked against the card."""
    from voxelboard.benchmark.readers.cards import files_here, load_card
    from voxelboard.benchmark.readers.registry import add_dataset

    card = load_card(name)
    say(f"{card.title}\nlicence: {card.licence.name}, {card.licence.url}")
    if card.terms:
        say(f"terms: {card.terms}")
    add_dataset(name, path)
    say(f"{len(files_here(card, path.expanduser()))} files are as the card says; cite:\n{card.citation.bibtex.strip()}")
    put(str(path.expanduser().resolve()))


@data_app.command()
def verify(name: Name) -> None:
    """Check every file of a data set against the checksums of its card."""
    from voxelboard.benchmark.readers.cards import files_here, load_card, verify_files
    from voxelboard.benchmark.readers.registry import dataset_path

    card = load_card(name)
    if card.source.kind == "generated":
        put(f"{name} is generated from a seed: it has no files")
        return
    folder = dataset_path(name)
    verify_files(card, folder)
    put(f"{name} {card.version}: {len(files_here(card, folder))} files are as the card says")


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
                    "available": card.name in here,
                    "path": str(folders[card.name]) if card.name in folders else None,
                }
                for card in cards
            ]
        )
        return
    rows = [
        (card.name, card.version, card.kind, card.task, str(len(card.subjects)), card.licence.name, place(card.name))
        for card in cards
    ]
    put_table(("name", "version", "kind", "task", "subjects", "licence", "where"), rows, right=(4,))
