# SPDX-License-Identifier: Apache-2.0
"""What a board says of a data set: title, licence, citation, from its card. Cards of a user's own may be missing."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from voxelboard._resources import cards_folder
from voxelboard.leaderboard.text import plain, safe_url


@dataclass(frozen=True)
class CardFacts:
    """The lines of a card that a page shows; empty where the card does not say."""

    title: str = ""
    licence: str = ""
    licence_url: str | None = None
    doi: str = ""
    doi_url: str | None = None
    bibtex: str = ""
    source_url: str | None = None


@cache
def card_facts(dataset: str) -> CardFacts:
    """The facts of a data set's card; all empty for a data set without a shipped card (``narratives:pieman``: its base)."""
    name = dataset.partition(":")[0]
    path = cards_folder() / f"{name}.yaml"
    if "/" in name or "\\" in name or not path.is_file():
        return CardFacts()
    card = yaml.safe_load(path.read_text(encoding="utf-8"))
    licence, citation, source = (_section(card, key) for key in ("licence", "citation", "source"))
    doi = plain(citation.get("doi") or "", 80)
    lines = str(citation.get("bibtex") or "").splitlines()[:60]
    return CardFacts(
        title=plain(card.get("title") or ""),
        licence=plain(licence.get("name") or ""),
        licence_url=safe_url(licence.get("url") or ""),
        doi=doi,
        doi_url=safe_url(f"https://doi.org/{doi}") if doi else None,
        bibtex="\n".join(" " * (len(line) - len(line.lstrip())) + plain(line, 300) for line in lines),
        source_url=safe_url(source.get("url") or ""),
    )


def _section(card: Any, key: str) -> Mapping[str, Any]:
    value = card.get(key) if isinstance(card, Mapping) else None
    return value if isinstance(value, Mapping) else {}
