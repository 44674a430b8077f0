# SPDX-License-Identifier: Apache-2.0
"""Below the tables of times: what each row says of itself (ratio to ours, parity, share of a peak)."""

from typing import Any

import pytest


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    session = getattr(config, "_benchmarksession", None)
    rows = [row for row in getattr(session, "benchmarks", ()) if row.extra_info]
    if not rows:
        return
    terminalreporter.section("ratios and parity")
    for group in dict.fromkeys(row.group for row in rows):
        terminalreporter.write_line(str(group))
        for row in (row for row in rows if row.group == group):
            told = ", ".join(f"{name} {_short(value)}" for name, value in row.extra_info.items())
            terminalreporter.write_line(f"  {row.name}: {told}")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
