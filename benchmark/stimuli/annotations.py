# SPDX-License-Identifier: Apache-2.0
"""Films as people described them: texts second by second, at several levels of meaning, by several annotators.

The levels are those of Nakagi et al. 2024 (EMNLP, section 3.1): what is said, what is seen, what is going on, what the
scene is about, and when and where it is. A text is held for as long as it applies, so it stands in every second of its
stretch; a second without a text is empty for that annotator.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, UserError, unknown_name

FloatArray = NDArray[np.float64]
Split = Literal["all", "A", "B"]


@dataclass(frozen=True)
class Level:
    """One level of meaning: what its texts say, how often they change, and how many people wrote them."""

    name: str
    says: str
    cadence: str
    n_annotators: int


# Source: Nakagi et al. 2024, section 3.1 and appendix. One annotator a language for speech.
LEVELS: tuple[Level, ...] = (
    Level("speech", "what is said, as transcribed", "intervals of speech", 1),
    Level("object", "what is on the screen", "every second", 5),
    Level("story", "what is going on and why", "about 5 s", 2),
    Level("summary", "what a section is about, and what its people do", "1 to 3 min", 3),
    Level("timeplace", "the time of day and the place", "each change of scene", 3),
)
LEVEL_NAMES = tuple(level.name for level in LEVELS)
SPLITS: tuple[Split, ...] = ("all", "A", "B")


@dataclass(frozen=True, eq=False)
class Annotation:
    """The texts of one level of one run.

    Attributes
    ----------
    texts : (n_annotators, n_seconds) strings; the empty string where an annotator wrote nothing.
    """

    texts: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if not self.texts or len({len(row) for row in self.texts}) != 1:
            raise DataError(
                f"annotators have texts for {[len(row) for row in self.texts]} seconds",
                "each annotator needs one text a second, empty or not",
            )

    @property
    def n_annotators(self) -> int:
        return len(self.texts)

    @property
    def n_seconds(self) -> int:
        return len(self.texts[0])

    @property
    def present(self) -> NDArray[np.bool_]:
        """(n_annotators, n_seconds) where there is a text."""
        return np.array([[bool(text) for text in row] for row in self.texts])

    def split(self, part: Split) -> "Annotation":
        """The texts of a half of the annotators, for quality control: A the first half (rounded up), B the rest.

        Raises
        ------
        UserError
            for an unknown part, and where there is one annotator only.
        """
        if part not in SPLITS:
            raise unknown_name("annotator split", part, SPLITS)
        if part == "all":
            return self
        if self.n_annotators < 2:
            raise UserError("this level has one annotator, which cannot be split", "use annotators: all")
        half = (self.n_annotators + 1) // 2
        return Annotation(self.texts[:half] if part == "A" else self.texts[half:])

    def windows(self, n_seconds: int) -> list[list[str]]:
        """(n_annotators, n_seconds of the run) the text of the last ``n_seconds`` seconds up to and with each second.

        Texts stand in the order in which they were presented, a text that is held for several seconds once, joined by
        a comma and a blank. Empty where the annotator wrote nothing in the whole window.
        """
        if n_seconds < 1:
            raise UserError(f"a window of {n_seconds} s; allowed: whole seconds from 1 (cw1 is the second itself)")
        return [[_join(row[max(0, t + 1 - n_seconds) : t + 1]) for t in range(self.n_seconds)] for row in self.texts]


def _join(texts: Sequence[str]) -> str:
    return ", ".join(text for text, _ in groupby(texts) if text)


@dataclass(frozen=True, eq=False)
class Run:
    """One run of an episode: what was seen and heard, on the clock of its responses. Build it with :func:`make_run`.

    Attributes
    ----------
    name : unique within the data set, as ``heroes_run-01``.
    title : film or series; folds never share one.
    n_trs : rows of the responses, with the overlap.
    tr : seconds.
    skip_trs : rows at the start that repeat the run before and are not scored. Their texts still reach, by the delays,
        the rows behind them.
    annotations : level -> texts; other languages as ``speech@jp``.
    acoustics, visuals : (n_trs, n_columns) low-level features of sound and picture, or None.
    latents : level -> (n_trs, n_columns), what drives simulated voxels; empty for real data.
    """

    name: str
    title: str
    n_trs: int
    tr: float
    skip_trs: int
    annotations: Mapping[str, Annotation]
    acoustics: FloatArray | None = None
    visuals: FloatArray | None = None
    latents: Mapping[str, FloatArray] = field(default_factory=dict)

    @property
    def seconds(self) -> NDArray[np.intp]:
        """(n_trs,) the second of the annotation that is on when each row starts."""
        seconds: NDArray[np.intp] = np.floor(np.arange(self.n_trs) * self.tr + 1e-9).astype(np.intp)
        return seconds

    @property
    def levels(self) -> tuple[str, ...]:
        """Levels with texts, without the twins in other languages."""
        return tuple(name for name in self.annotations if "@" not in name)

    @property
    def sha256(self) -> str:
        """Hash of all that determines features: name, clock, texts and low-level columns."""
        digest = hashlib.sha256(f"{self.name}|{self.title}|{self.n_trs}|{self.tr!r}|{self.skip_trs}".encode())
        for level in sorted(self.annotations):
            digest.update(level.encode())
            for row in self.annotations[level].texts:
                digest.update("\n".join(row).encode())
        for table in (self.acoustics, self.visuals, *(self.latents[name] for name in sorted(self.latents))):
            digest.update(b"-" if table is None else np.asarray(table, dtype="<f8").tobytes())
        return digest.hexdigest()

    def with_annotations(self, annotations: Mapping[str, Annotation]) -> "Run":
        """The same run with other texts, checked again."""
        return check_run(replace(self, annotations=dict(annotations)))


def make_run(
    name: str,
    title: str,
    *,
    n_trs: int,
    annotations: Mapping[str, Annotation],
    tr: float = 1.0,
    skip_trs: int = 0,
    acoustics: FloatArray | None = None,
    visuals: FloatArray | None = None,
    latents: Mapping[str, FloatArray] | None = None,
) -> Run:
    """Check the texts of a run against its scan and build a :class:`Run`; arguments as there.

    Raises
    ------
    DataError
        for texts of fewer or more seconds than the run, and low-level columns of another length.
    UserError
        for a level that the task does not know.
    """
    return check_run(Run(name, title, n_trs, tr, skip_trs, dict(annotations), acoustics, visuals, dict(latents or {})))


def check_run(run: Run) -> Run:
    """The run itself, if it is whole; raises as :func:`make_run`."""
    if run.tr <= 0 or run.n_trs < 1 or not 0 <= run.skip_trs < run.n_trs:
        raise DataError(
            f"run {run.name!r}: {run.n_trs} rows of {run.tr} s, {run.skip_trs} skipped; "
            "expected a positive TR and fewer skipped rows than rows"
        )
    if not run.annotations:
        raise DataError(f"run {run.name!r} has no annotation of any level", f"allowed: {', '.join(LEVEL_NAMES)}")
    n_seconds = round(run.n_trs * run.tr)
    for level, annotation in run.annotations.items():
        check_level(level.partition("@")[0])
        if annotation.n_seconds != n_seconds:
            longer = "longer" if annotation.n_seconds > n_seconds else "shorter"
            raise DataError(
                f"run {run.name!r}, level {level!r}: the annotation has {annotation.n_seconds} seconds, {longer} than "
                f"the run ({n_seconds} s)",
                "one line a second, the 20 s of overlap included: check that both come from the same cut of the film",
            )
    for what, table in (("acoustics", run.acoustics), ("visuals", run.visuals), *run.latents.items()):
        if table is not None and (table.ndim != 2 or len(table) != run.n_trs):
            raise DataError(f"run {run.name!r}: {what} have shape {table.shape}, expected ({run.n_trs}, n_columns)")
    return run


def check_level(name: str) -> str:
    """The name itself, if it is a level; raises UserError with the nearest one otherwise."""
    if name not in LEVEL_NAMES:
        raise unknown_name("level", name, LEVEL_NAMES)
    return name
