# SPDX-License-Identifier: Apache-2.0
"""Where data sets lie on this machine, and how one is opened by its name."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.errors import MissingPrerequisite, UserError, unknown_name
from voxelboard.benchmark.readers.base import Dataset, NarrativeData, RoiOrder
from voxelboard.benchmark.readers.card_files import VerifyProgress, verify_files
from voxelboard.benchmark.readers.cards import Card, list_cards, load_card


def voxelboard_home() -> Path:
    """The user's own folder: ``$VOXELBOARD_HOME``, or ``~/.voxelboard``."""
    given = os.environ.get("VOXELBOARD_HOME")
    return Path(given).expanduser() if given else Path.home() / ".voxelboard"


def registered_datasets() -> dict[str, Path]:
    """Data set name -> folder, as added on this machine.

    Raises
    ------
    UserError
        when the registry file is not what this module writes.
    """
    path = _registry_file()
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}", "delete it and add your data sets again") from error
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise UserError(f"{path} does not map data set names to folders", "delete it and add your data sets again")
    return {name: Path(folder) for name, folder in value.items()}


def add_dataset(name: str, path: Path | str, verify: bool = True, progress: VerifyProgress | None = None) -> Card:
    """Remember where a data set lies, after checking its files.

    Parameters
    ----------
    name : of a card.
    path : folder that holds the card's files.
    verify : check sizes and SHA-256; without it only the folder must exist.
    progress : called as files are verified.

    Raises
    ------
    UserError
        for an unknown data set or one that needs no files.
    DataError, MissingPrerequisite
        as :func:`voxelboard.benchmark.readers.cards.verify_files`. The registry is then unchanged.
    """
    card = load_card(name)
    if card.source.kind == "generated":
        raise UserError(
            f"{name} is generated, it has no files to add", f"use it as it is: voxelboard run -t {card.task}"
        )
    folder = Path(path).expanduser().resolve()
    if not folder.is_dir():
        raise MissingPrerequisite(f"there is no folder {folder}", f"voxelboard data add {name} --from PATH")
    if verify:
        verify_files(card, folder, progress)
    _write_registry({**registered_datasets(), name: folder})
    return card


def remove_dataset(name: str) -> None:
    """Forget where a data set lies; its files stay."""
    known = registered_datasets()
    if name not in known:
        raise unknown_name("registered data set", name, known)
    _write_registry({key: folder for key, folder in known.items() if key != name})


def dataset_path(name: str) -> Path:
    """The folder of a data set on this machine.

    Raises
    ------
    UserError
        for an unknown data set.
    MissingPrerequisite
        for a known one that was not added, or whose folder is gone.
    """
    card = load_card(name)
    known = registered_datasets()
    hint = f"voxelboard data add {name} --from PATH" + (f"   (files: {card.source.url})" if card.source.url else "")
    if name not in known:
        raise MissingPrerequisite(f"the data set {name} is not on this machine", hint)
    if not known[name].is_dir():
        raise MissingPrerequisite(f"the data set {name} was at {known[name]}, which is gone", hint)
    return known[name]


def open_dataset(name: str, task: str | None = None) -> Any:
    """Open a data set by the name of its card, or the folder of your own that holds a ``dataset.yaml``.

    Some names have variants after a colon: ``narratives:pieman``, ``lebel2023:rois``. A simulated data set may be followed by a preset, and a seed: ``simulated-narrative:tiny``,
    ``simulated-narrative:ci:3``.

    What is returned has the attributes of :class:`~voxelboard.benchmark.readers.base.Dataset` and those of its task
    (:class:`~voxelboard.benchmark.readers.base.NarrativeData` for the task narrative).

    Raises
    ------
    UserError
        for an unknown name, variant, preset or seed, and for a data set of another task than the one given.
    MissingPrerequisite, DataError
        for data that are not here, or not what the card says.
    """
    base, _, variant = name.partition(":")
    if base not in list_cards() and (own := own_folder(name)) is not None:
        from voxelboard.benchmark.readers.own import OwnData

        return _of_task(OwnData(own), task)
    card = load_card(base)
    if task is not None and task not in tasks_on(card.task):
        _refuse_task(card.name, card.task, task)
    return READERS[card.reader](card, variant)


def _of_task(data: Dataset, task: str | None) -> Dataset:
    if task is not None and task not in tasks_on(data.task):
        _refuse_task(data.name, data.task, task)
    return data


def tasks_on(task: str) -> tuple[str, ...]:
    """The tasks that run on the data sets of a task: stories can be read as they are, and perturbed."""
    return (task, *_ALSO.get(task, ()))


_ALSO = {"narrative": ("ablation",)}


def _refuse_task(name: str, has: str, asked: str) -> NoReturn:
    fitting = [card for card in list_cards() if asked in tasks_on(load_card(card).task)]
    raise UserError(
        f"the data set {name} is of the task {has}, not {asked}",
        f"data sets of {asked}: {', '.join(fitting) or 'none'}; or write -t {has}",
    )


def task_of(name: str) -> str:
    """The task that a data set is of; raises UserError for an unknown name. Reads its card, not its data."""
    base, _, _ = name.partition(":")
    if base not in list_cards() and own_folder(name) is not None:
        return "narrative"
    return load_card(base).task


def own_folder(name: str) -> Path | None:
    """The folder that a name means, if it is one that holds a ``dataset.yaml`` or looks like a path to one.

    Raises
    ------
    MissingPrerequisite
        for a folder without a ``dataset.yaml``.
    """
    folder = Path(name).expanduser()
    if folder.name == "dataset.yaml" and folder.is_file():
        folder = folder.parent
    if (folder / "dataset.yaml").is_file():
        return folder.resolve()
    if folder.is_dir():
        raise MissingPrerequisite(
            f"there is no dataset.yaml in {folder}", "docs/datasets.md, section 'Bring your own', has one to fill in"
        )
    return None


def _no_variants(card: Card, variant: str) -> None:
    if variant:
        raise UserError(f"{card.name} has no variants, got '{card.name}:{variant}'", f"write {card.name}")


def _open_simulated(card: Card, variant: str) -> NarrativeData:
    from voxelboard.benchmark.readers.simulated import open_simulated

    return open_simulated(*_preset(card, variant))


def _preset(card: Card, variant: str) -> tuple[str, int]:
    """Preset and seed of a simulated data set; all of them have the preset ``demo``."""
    preset, _, seed = variant.partition(":")
    if seed and not seed.isdecimal():
        raise UserError(f"{seed!r} is not a seed", f"write {card.name}:{preset}:1")
    return preset or "demo", int(seed or 0)


def _open_simulated_ablation(card: Card, variant: str) -> NarrativeData:
    from voxelboard.benchmark.readers.simulated_ablation import open_simulated_ablation

    return open_simulated_ablation(*_preset(card, variant))


def _open_simulated_drama(card: Card, variant: str) -> Dataset:
    from voxelboard.benchmark.readers.simulated_drama import open_simulated_drama

    return open_simulated_drama(*_preset(card, variant))


def _open_simulated_captions(card: Card, variant: str) -> Dataset:
    from voxelboard.benchmark.readers.simulated_captions import open_simulated_captions

    return open_simulated_captions(*_preset(card, variant))


def _open_nsd(card: Card, variant: str) -> Dataset:
    from voxelboard.benchmark.readers.nsd import Nsd

    return Nsd(card, dataset_path(card.name), variant, voxelboard_home() / "prepared")


def _open_ds005531(card: Card, variant: str) -> Dataset:
    from voxelboard.benchmark.readers.ds005531 import Ds005531

    return Ds005531(card, dataset_path(card.name), variant)


def _open_lebel2023(card: Card, variant: str) -> NarrativeData:
    from voxelboard.benchmark.readers.lebel2023 import Lebel2023

    return Lebel2023(card, dataset_path(card.name), variant)


def _open_narratives(card: Card, variant: str) -> NarrativeData:
    from voxelboard.benchmark.readers.narratives import Narratives

    return Narratives(card, dataset_path(card.name), variant)


def _open_lebel2023_pcs(card: Card, variant: str) -> NarrativeData:
    _no_variants(card, variant)
    from voxelboard.benchmark.readers.lebel2023_pcs import Lebel2023Components

    return Lebel2023Components(card, dataset_path(card.name))


def _open_alice2016(card: Card, variant: str) -> NarrativeData:
    _no_variants(card, variant)
    from voxelboard.benchmark.readers.alice2016 import Alice2016

    return Alice2016(card, dataset_path(card.name))


def _open_simulated_sentences(card: Card, variant: str) -> NarrativeData:
    from voxelboard.benchmark.readers.simulated_sentences import open_simulated_sentences

    return open_simulated_sentences(*_preset(card, variant))


def _open_pereira2018(card: Card, variant: str) -> NarrativeData:
    from voxelboard.benchmark.readers.pereira2018 import open_pereira2018

    return open_pereira2018(card, dataset_path(card.name), variant)


def _open_tuckute2024(card: Card, variant: str) -> NarrativeData:
    from voxelboard.benchmark.readers.tuckute2024 import open_tuckute2024

    return open_tuckute2024(card, dataset_path(card.name), variant)


def _open_blank2014(card: Card, variant: str) -> NarrativeData:
    from voxelboard.benchmark.readers.blank2014 import open_blank2014

    return open_blank2014(card, dataset_path(card.name), variant)


def _open_lepetitprince(card: Card, variant: str) -> NarrativeData:
    from voxelboard.benchmark.readers.lepetitprince import LePetitPrince

    return LePetitPrince(card, dataset_path(card.name), variant)


# A card's ``reader`` -> how to open it. Imports wait, so that listing data sets stays fast.
READERS: dict[str, Callable[[Card, str], Dataset]] = {
    "simulated": _open_simulated,
    "simulated_captions": _open_simulated_captions,
    "nsd": _open_nsd,
    "simulated_drama": _open_simulated_drama,
    "simulated_ablation": _open_simulated_ablation,
    "ds005531": _open_ds005531,
    "lebel2023_pcs": _open_lebel2023_pcs,
    "alice2016": _open_alice2016,
    "lebel2023": _open_lebel2023,
    "narratives": _open_narratives,
    "simulated_sentences": _open_simulated_sentences,
    "pereira2018": _open_pereira2018,
    "tuckute2024": _open_tuckute2024,
    "blank2014": _open_blank2014,
    "lepetitprince": _open_lepetitprince,
}


def available_datasets() -> tuple[str, ...]:
    """Names of the data sets that can be opened here and now."""
    known = registered_datasets()
    return tuple(
        name
        for name in list_cards()
        if load_card(name).source.kind == "generated" or (name in known and known[name].is_dir())
    )


def _registry_file() -> Path:
    return voxelboard_home() / "data.json"


def _write_registry(folders: dict[str, Path]) -> None:
    """Replace the registry in one step: a crash leaves the old one or the new one."""
    text = json.dumps({name: str(folder) for name, folder in sorted(folders.items())}, indent=2) + "\n"
    replace_file(_registry_file(), lambda file: file.write(text.encode()))


def roi_order(data: NarrativeData) -> RoiOrder:
    """Scored regions from early to late, as the data set itself or its card gives them; empty where neither does."""
    own: RoiOrder | None = getattr(data, "roi_order", None)
    if own is None:
        name = data.name.partition(":")[0]
        own = load_card(name).roi_order if name in list_cards() else ()
    groups = [(tied,) if isinstance(tied, str) else tied for tied in own]
    scored = (tuple(roi for roi in group if roi in data.scored_rois) for group in groups)
    return tuple(group for group in scored if group)
