# SPDX-License-Identifier: Apache-2.0
"""Fetching a data set: what is missing, whether it fits and may be used, and then the bytes."""

import fcntl
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from voxelboard.benchmark.errors import MissingPrerequisite, UserError
from voxelboard.benchmark.readers.cards import Card
from voxelboard.benchmark.readers.registry import add_dataset, registered_datasets, voxelboard_home
from voxelboard.runners.console import say
from voxelboard.runners.fetching.download import Missing, Report, check_disk, download_all, missing_files, spoilt_files
from voxelboard.runners.fetching.remote import RemoteFile, remote_files, unreachable_files
from voxelboard.runners.fetching.terms import accept_terms

_SHOWN = 10  # files that an error names


@dataclass(frozen=True)
class FetchPlan:
    """What a fetch would do: ``missing`` files of ``files``, to come to ``folder``."""

    card: Card
    folder: Path
    files: tuple[RemoteFile, ...]
    missing: tuple[Missing, ...]

    @property
    def n_bytes(self) -> int:
        """Bytes to get, of the files whose size is known."""
        return sum(max((item.file.n_bytes or 0) - item.n_there, 0) for item in self.missing)

    @property
    def n_unknown(self) -> int:
        """Files whose size nobody says."""
        return sum(item.file.n_bytes is None for item in self.missing)


def default_folder(name: str) -> Path:
    """Where a data set is, or will be: its registered folder, or ``data/NAME`` in the user's own folder."""
    return registered_datasets().get(name, voxelboard_home() / "data" / name)


def plan_fetch(
    card: Card,
    folder: Path,
    subjects: Collection[str] | None = None,
    stories: Collection[str] | None = None,
    *,
    offline: bool = False,
) -> FetchPlan:
    """What is missing in ``folder``; patterns are looked up at the source.

    Raises
    ------
    UserError
        for a data set that is generated, or an unknown subject or story.
    MissingPrerequisite
        for a data set that cannot be fetched, and offline: the message names the files and where to put them.
    """
    if card.source.kind == "generated":
        raise UserError(f"{card.name} is generated, it has no files", f"voxelboard run --data {card.name}")
    by_hand = unreachable_files(card)
    if by_hand:
        terms = f"\n  {card.terms}" if card.terms else ""
        raise MissingPrerequisite(
            f"{card.name} cannot be fetched by a program: {card.source.url or 'its owner'} gives {_few(by_hand)}{terms}",
            f"put them into a folder and type: voxelboard data add {card.name} --from FOLDER",
        )
    if offline:
        _refuse_offline(card, folder, subjects, stories)
    files = remote_files(card, subjects, stories)
    missing = missing_files(files, folder)
    return FetchPlan(card, folder, tuple(files), tuple(missing))


def fetch(
    plan: FetchPlan,
    *,
    accept: bool = False,
    n_at_once: int = 4,
    reporter: Callable[[FetchPlan], AbstractContextManager[Report]],
) -> FetchPlan:
    """Ask for the terms, look whether the files that are here are right, download the others, and remember the folder.

    Every file is compared with its hash, those that come before they get their name. Gives the plan as it was carried out.

    Raises
    ------
    UserError
        when the terms are not accepted.
    MissingPrerequisite, DataError
        as :func:`download_all`.
    """
    accept_terms(plan.card, accept)
    gone = {item.file.path for item in plan.missing}
    here = [file for file in plan.files if file.path not in gone]
    if here:
        say(f"checking {len(here)} files that are here")
    spoilt = spoilt_files(here, plan.folder)
    for item in spoilt:
        say(f"  {item.file.path} is not as the card says: it is fetched again")
    done = replace(plan, missing=(*plan.missing, *spoilt))
    if done.missing:
        check_disk(done.missing, plan.folder)
        with _only_one(plan.folder), reporter(done) as report:
            download_all([item.file for item in done.missing], plan.folder, n_at_once, report)
    add_dataset(plan.card.name, plan.folder, verify=False)
    return done


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold a folder; the kernel lets go of it when the process ends, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".fetch.lock"
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another fetch writes to {folder}", "wait for it, or choose another folder with --to"
            ) from error
        yield
        path.unlink(missing_ok=True)


def _refuse_offline(
    card: Card, folder: Path, subjects: Collection[str] | None, stories: Collection[str] | None
) -> None:
    listed = card.model_copy(update={"file_patterns": ()})
    missing = [item.file.path for item in missing_files(remote_files(listed, subjects, stories), folder)]
    missing += [p.any_name for p in card.file_patterns if not any(folder.glob(p.any_name))]
    if missing:
        raise MissingPrerequisite(
            f"offline, and {card.name} lacks {_few(missing)}",
            f"bring them from {card.source.url or card.source.location} to {folder}, then: "
            f"voxelboard data add {card.name} --from {folder}",
        )


def _few(names: Sequence[str]) -> str:
    shown = "\n  ".join(names[:_SHOWN])
    more = f"\n  and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} files:\n  {shown}{more}"
