# SPDX-License-Identifier: Apache-2.0
"""What a check measures, what it may be, and what is said about it."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxelboard.benchmark.errors import InvalidNumbers

if TYPE_CHECKING:
    from voxelboard.benchmark.selftest.worlds import Workbench


@dataclass(frozen=True)
class Figure:
    """One measured number and its bound.

    Attributes
    ----------
    name : what was measured.
    low, high : the goal; infinite where there is none.
    error : Monte-Carlo allowance of this run (3 standard errors unless the name says otherwise), added at both ends.
    """

    name: str
    value: float
    low: float = -math.inf
    high: float = math.inf
    error: float = 0.0

    @property
    def passed(self) -> bool:
        """Within the goal and the allowance; NaN never is."""
        return bool(self.low - self.error <= self.value <= self.high + self.error)

    @property
    def bound(self) -> str:
        """The goal in words, with the allowance."""
        low, high = math.isfinite(self.low), math.isfinite(self.high)
        if not low and not high:
            return "reported"
        if low and high:
            text = f"= {self.low:g}" if self.low == self.high else f"{self.low:g} to {self.high:g}"
        else:
            text = f"at least {self.low:g}" if low else f"at most {self.high:g}"
        return f"{text} (± {self.error:.2g})" if self.error else text

    def as_json(self) -> dict[str, Any]:
        """Plain values; infinite and undefined ones are None."""
        numbers = {"value": self.value, "low": self.low, "high": self.high, "error": self.error}
        finite = {name: float(value) if math.isfinite(value) else None for name, value in numbers.items()}
        return {"name": self.name, **finite, "passed": self.passed}


@dataclass(frozen=True)
class Measurement:
    """What a check returns: its figures, and how much was simulated (``"3000 voxels"``)."""

    figures: tuple[Figure, ...]
    n: str


@dataclass(frozen=True)
class Invariant:
    """A property that valid numbers need.

    Attributes
    ----------
    id : letter and number of statistics.md, section 1.
    source : where the property and its goal come from.
    bound : the goal in words, with what it would be if the property were broken.
    """

    id: str
    title: str
    source: str
    bound: str
    check: Callable[["Workbench"], Measurement]


@dataclass(frozen=True)
class Finding:
    """An invariant, measured.

    ``stopped`` is the message of the pipeline's own guard where it refused to go on, which is a failure here.
    """

    id: str
    title: str
    bound: str
    figures: tuple[Figure, ...]
    passed: bool
    n: str
    seconds: float
    stopped: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "id": self.id,
            "title": self.title,
            "bound": self.bound,
            "figures": [figure.as_json() for figure in self.figures],
            "passed": self.passed,
            "n": self.n,
            "seconds": round(self.seconds, 3),
            "stopped": self.stopped or None,
        }


def examine(invariant: Invariant, bench: "Workbench") -> Finding:
    """Run one check."""
    start = time.perf_counter()
    try:
        measured, stopped = invariant.check(bench), ""
    except InvalidNumbers as error:
        measured, stopped = Measurement((), "0"), str(error)
    return Finding(
        id=invariant.id,
        title=invariant.title,
        bound=invariant.bound,
        figures=measured.figures,
        passed=not stopped and all(figure.passed for figure in measured.figures),
        n=measured.n,
        seconds=time.perf_counter() - start,
        stopped=stopped,
    )


def share_error(share: float, n: int) -> float:
    """Three standard errors of a share of ``n`` independent cases, at its nominal value."""
    return 3 * math.sqrt(share * (1 - share) / n)
