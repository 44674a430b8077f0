# SPDX-License-Identifier: Apache-2.0
"""Hostile strings and numbers as text."""

import math

import pytest

from voxelboard.leaderboard.text import bounds, count, csv_cell, number, plain, safe_url, scientific, signed


@pytest.mark.parametrize("mark", ["\u202e", "\u2066", "\u200f", "\u200b", "\x00", "\x1b", "\ufeff", "\ud800"])
def test_invisible_and_bidi_characters_become_visible(mark: str) -> None:
    assert plain(f"gpt{mark}2") == "gpt\ufffd2"


def test_plain_is_one_line_of_bounded_length() -> None:
    assert plain("a\n b\tc") == "a b c"
    assert len(plain("x" * 10_000)) == 120
    assert plain("x" * 10_000, 8) == "xxxxxxx…"
    assert plain("x" * 120) == "x" * 120


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "data:text/html,x",
        "http://example.org",
        "https://",
        "https://user@example.org",
        "https://exa mple.org",
        'https://example.org/"onclick=',
        "https://[::1",
        "//example.org",
        "https://example.org/" + "x" * 1000,
    ],
)
def test_only_plain_https_addresses_are_links(url: str) -> None:
    assert safe_url(url) is None


def test_a_doi_is_a_link() -> None:
    assert safe_url("https://doi.org/10.1038/s41593-022-01026-4") == "https://doi.org/10.1038/s41593-022-01026-4"


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\uff1d1", "|cmd", "%x"])
def test_formulas_are_text_in_a_spreadsheet(cell: str) -> None:
    written = csv_cell(cell)
    assert isinstance(written, str)
    # a leading tab is stripped, then what follows is neutralised
    assert written.startswith("'")
    assert csv_cell(-0.25) == -0.25
    assert csv_cell("gpt2-xl") == "gpt2-xl"


def test_numbers_have_real_minus_signs_and_no_negative_zero() -> None:
    assert number(-0.1234) == "−0.123"
    assert number(-0.0004) == "0.000"
    assert signed(0.05) == "+0.050"
    assert signed(0.0001) == "0.000"
    assert bounds(-0.5, 0.25, 2) == "[−0.50, 0.25]"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (999, "999"),
        (1000, "1K"),
        (260_032, "260K"),
        (999_999, "1M"),
        (124_439_808, "124M"),
        (6_738_415_616, "6.7B"),
    ],
)
def test_counts_have_a_unit(value: int, text: str) -> None:
    assert count(value) == text
    assert math.isclose(
        float(text.rstrip("KMB")) * 1000 ** ("", "K", "M", "B").index(text[-1] if text[-1] in "KMB" else ""),
        value,
        rel_tol=0.01,
    )


def test_numbers_too_small_for_three_digits_have_a_power_of_ten() -> None:
    assert scientific(-5.8e-7) == "\N{MINUS SIGN}5.8e\N{MINUS SIGN}07"
    assert scientific(0.0) == "0.000"
    assert scientific(1.1624) == "1.162"
