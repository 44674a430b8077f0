# SPDX-License-Identifier: Apache-2.0
"""Licence and terms: shown before a download, accepted once a version of them."""

import hashlib
import json
import sys
from contextlib import suppress
from pathlib import Path

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.readers.cards import Card
from voxelboard.benchmark.readers.registry import voxelboard_home
from voxelboard.runners.console import say


def accept_terms(card: Card, accepted: bool) -> None:
    """Show licence and terms; where there are terms that were not accepted on this machine, ask for it.

    Parameters
    ----------
    accepted : ``--accept-terms`` was given.

    Raises
    ------
    UserError
        when they are declined, or nobody is there to ask.
    """
    say(f"{card.title}\nlicence: {card.licence.name}, {card.licence.url}")
    if card.terms is None:
        return
    say(f"terms: {card.terms}")
    known = _accepted()
    if known.get(card.name) == _hash(card):
        return
    if not accepted and not _ask():
        raise UserError(
            f"the terms of {card.name} were not accepted",
            f"read them and type: voxelboard data fetch {card.name} --accept-terms",
        )
    text = json.dumps({**known, card.name: _hash(card)}, indent=2, sort_keys=True) + "\n"
    replace_file(_file(), lambda stream: stream.write(text.encode()))


def _ask() -> bool:
    if not sys.stdin.isatty():
        return False
    say("do you accept them? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _accepted() -> dict[str, str]:
    with suppress(OSError, ValueError):
        value = json.loads(_file().read_text(encoding="utf-8"))
        if isinstance(value, dict):
            return {str(name): str(text) for name, text in value.items()}
    return {}


def _file() -> Path:
    return voxelboard_home() / "accepted_terms.json"


def _hash(card: Card) -> str:
    return hashlib.sha256(f"{card.licence.name}\n{card.licence.url}\n{card.terms}".encode()).hexdigest()
