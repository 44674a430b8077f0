# SPDX-License-Identifier: Apache-2.0
"""The table of data sets in the documentation, made from the cards."""

from voxelboard.benchmark.readers.cards import Card, list_cards, load_card

START, STOP = "<!-- made by: voxelboard data list --markdown -->", "<!-- end of the table -->"


def cards_markdown() -> str:
    """One line a card: name, what it is, subjects, ceiling, size, licence, and whether it can be fetched."""
    lines = [
        "| name | task | what it is | people | ceiling | size | licence |",
        "|---|---|---|---|---|---|---|",
        *(_line(load_card(name)) for name in list_cards()),
    ]
    return "\n".join((START, *lines, STOP))


def _line(card: Card) -> str:
    size = human_size(card.n_bytes)
    if card.source.kind == "generated":
        size = "embedded"
    elif not card.can_be_fetched:
        size = f"{size} by hand".strip()
    licence = f"[{card.licence.name}]({card.licence.url})" + (", terms" if card.terms else "")
    cells = (
        f"`{card.name}`",
        card.task,
        card.title,
        str(len(card.subjects)),
        card.ceiling_kind.replace("_", "-"),
        size,
        licence,
    )
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def human_size(n_bytes: int) -> str:
    """``71.2 GB``, ``26.1 MB``, or nothing where the sizes of the files are not published."""
    if not n_bytes:
        return ""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{max(n_bytes / 1e6, 0.1):.1f} MB"
