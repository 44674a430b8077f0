# SPDX-License-Identifier: Apache-2.0
"""Frozen releases of a board, and why a rank changed since the last one."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.leaderboard.text import number, plain

FOLDER = "releases"
_MANIFEST = "release.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


@dataclass(frozen=True)
class Release:
    """A frozen copy of a site: ``boards`` holds its board.json by kind of data."""

    name: str
    day: str
    boards: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Change:
    """What happened to one row of one column between two boards."""

    column: str
    name: str
    page: str
    what: str
    before: str
    after: str
    why: str


def check_name(name: str, target: Path) -> None:
    """Raise UserError unless a release may be called so and does not exist yet: a release is never written again."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"a release cannot be called {name!r}", "use up to 40 letters, digits, '.', '_' and '-', such as 2026.11"
        )
    if (target / FOLDER / name).exists():
        raise UserError(
            f"the release {name} exists, and a release never changes", f"choose another name than {name} for --release"
        )


def read_releases(target: Path) -> tuple[Release, ...]:
    """The releases of the site in ``target``, oldest first."""
    root = target / FOLDER
    found = []
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        manifest = folder / _MANIFEST
        if manifest.is_file():
            try:
                facts = json.loads(manifest.read_text(encoding="utf-8"))
                boards = {
                    kind: json.loads((folder / address).read_text(encoding="utf-8"))
                    for kind, address in facts["boards"].items()
                }
                found.append(Release(folder.name, str(facts["day"]), boards))
            except (KeyError, ValueError, OSError, AttributeError) as error:
                raise DataError(f"the release {folder} is damaged: {error}", "restore it from its backup") from error
    return tuple(sorted(found, key=lambda release: (release.day, release.name)))


def write_manifest(folder: Path, name: str, day: str, boards: Mapping[str, str]) -> None:
    """Say what a frozen folder holds; ``boards`` gives the address of each board.json by kind."""
    text = json.dumps({"name": name, "day": day, "boards": dict(boards)}, indent=1, sort_keys=True) + "\n"
    (folder / _MANIFEST).write_bytes(text.encode())


def carry_over(old: Path, new: Path) -> None:
    """Copy the releases of the site in ``old`` into the one in ``new``, byte for byte."""
    if (old / FOLDER).is_dir():
        shutil.copytree(old / FOLDER, new / FOLDER, dirs_exist_ok=True)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """What changed from one board.json to another: entered, left, measured again, or moved by others; with the reason."""
    old = {_column_key(table): table for table in before["tables"]}
    found: list[Change] = []
    for table in after["tables"]:
        label = _label(table)
        earlier = old.pop(_column_key(table), None)
        if earlier is None:
            kin = [t for t in before["tables"] if _kin_key(t) == _kin_key(table)]
            why = _other_measurement(kin[0], table) if kin else "a new column: nothing to compare it with"
            found.append(Change(label, "", "", "new column", "", f"{len(table['rows'])} rows", why))
            continue
        found += _row_changes(label, earlier, table)
    for table in old.values():
        found.append(
            Change(_label(table), "", "", "column gone", f"{len(table['rows'])} rows", "", "no records of it are left")
        )
    return found


def _row_changes(label: str, earlier: Mapping[str, Any], table: Mapping[str, Any]) -> Iterator[Change]:
    before, after = ({_row_key(row): row for row in t["rows"]} for t in (earlier, table))
    entered = [row for key, row in after.items() if key not in before and row["rank"]]
    left = [row for key, row in before.items() if key not in after and row["rank"]]
    for key in dict.fromkeys([*after, *before]):
        old, new = before.get(key), after.get(key)
        name = plain((new or old or {})["display_name"], 80)
        page = new["page"] if new else ""
        if old is None and new is not None:
            yield Change(label, name, page, "entered", "", _standing(new), _why_state(new, "first scored"))
        elif new is None and old is not None:
            yield Change(label, name, page, "left", _standing(old), "", "no record of it is public any more")
        elif old is not None and new is not None and _standing(old) != _standing(new):
            yield Change(
                label, name, page, _what(old, new), _standing(old), _standing(new), _why(old, new, entered, left)
            )


def _why(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    entered: Sequence[Mapping[str, Any]],
    left: Sequence[Mapping[str, Any]],
) -> str:
    if old["state"]["name"] != new["state"]["name"]:
        return _why_state(new, f"was {old['state']['name']}")
    again = sorted(s for s in new["digests"] if old["digests"].get(s) != new["digests"][s])
    if again:
        listed = ", ".join(plain(subject, 30) for subject in again[:5]) + (" …" if len(again) > 5 else "")
        return f"measured again: the records of {listed} differ"
    parts = []
    if entered:
        parts.append(f"{len(entered)} entered ({_names(entered)})")
    if left:
        parts.append(f"{len(left)} left ({_names(left)})")
    if parts:
        return f"its own records are the same; {', '.join(parts)}, so the paired tests are corrected over other pairs"
    return "its own records are the same; other models were measured again"


def _why_state(row: Mapping[str, Any], other: str) -> str:
    detail = plain(row["state"]["detail"], 160)
    return f"{other}; {row['state']['name']}: {detail}" if detail else other


def _what(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    if old["state"]["name"] != new["state"]["name"]:
        return f"{old['state']['name']} → {new['state']['name']}"
    if old["rank"] and new["rank"] and old["rank"] != new["rank"]:
        return "rank up" if new["rank"] < old["rank"] else "rank down"
    return "score"


def _standing(row: Mapping[str, Any]) -> str:
    """Rank and score as shown."""
    score = row["score"]
    if "reason" in score:
        return str(row["state"]["name"])
    half = (score["high"] - score["low"]) / 2
    text = f"{number(score['estimate'])} ±{number(half)}"
    if row["rank"]:
        low, high = row["rank"]
        text = f"rank {low if low == high else f'{low}–{high}'}, {text}"
    return text


def _names(rows: Sequence[Mapping[str, Any]]) -> str:
    names = [plain(row["display_name"], 40) for row in rows[:3]]
    return ", ".join(names) + (" …" if len(rows) > 3 else "")


def _column_key(table: Mapping[str, Any]) -> str:
    return json.dumps(table["column"], sort_keys=True)


def _kin_key(table: Mapping[str, Any]) -> tuple[str, ...]:
    column = table["column"]
    return (column["task"], column["dataset"], column["track"])


def _other_measurement(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    names = [key for key in sorted(new["column"]) if old["column"].get(key) != new["column"][key]]
    listed = ", ".join(
        f"{key.replace('_', ' ')} {plain(old['column'].get(key), 20)} → {plain(new['column'][key], 20)}"
        for key in names
    )
    return f"another measurement than before, so its scores cannot be compared: {listed}"


def _label(table: Mapping[str, Any]) -> str:
    column = table["column"]
    return plain(f"{column['task']} v{column['task_version']} · {column['dataset']} {column['dataset_version']}")


def _row_key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (row["submission"], row["revision"], row["weights"], row["seed"])
