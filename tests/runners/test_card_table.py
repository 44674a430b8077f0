# SPDX-License-Identifier: Apache-2.0
"""The documentation's table of data sets says what the cards say, and every card says enough."""

from pathlib import Path

import pytest

from voxelboard.benchmark.readers.cards import list_cards, load_card
from voxelboard.runners.card_table import START, STOP, cards_markdown
from voxelboard.runners.cli import run_cli

DOCS = Path(__file__).resolve().parents[2] / "docs" / "datasets.md"


def test_the_table_of_the_documentation_is_that_of_the_cards(capsys):
    text = DOCS.read_text(encoding="utf-8")
    shown = text[text.index(START) : text.index(STOP) + len(STOP)]
    assert run_cli(["data", "list", "--markdown"]) == 0
    made = capsys.readouterr().out.rstrip("\n")
    assert made == cards_markdown()
    assert shown == made, "put the output of `voxelboard data list --markdown` into docs/datasets.md"


@pytest.mark.parametrize("name", list_cards())
def test_every_card_says_what_a_reader_asks(name):
    card = load_card(name)
    assert card.stimuli
    assert card.ceiling_rule
    assert card.known_defects
    assert card.citation.doi or card.kind == "simulated"
    if card.source.kind not in ("generated", "path"):
        assert card.can_be_fetched or card.source.url
