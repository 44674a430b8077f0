# SPDX-License-Identifier: Apache-2.0
"""From the texts of a film to features on the clock of the responses, through the store."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.features.store import FeatureStore
from voxelboard.benchmark.models.base import WordModel
from voxelboard.benchmark.models.texts import read_texts
from voxelboard.benchmark.stimuli.annotations import Annotation, Run, Split

Float32Array = NDArray[np.float32]

# Raise it when the code below, or that of a loader, changes the numbers: it is part of every key.
STAGE_VERSION = 1

# Called with (runs done, runs in all, texts done in this run, texts in this run).
ReadingProgress = Callable[[int, int, int, int], None]


def annotation_features(
    model: WordModel,
    runs: Mapping[str, Run],
    levels: Sequence[str],
    store: FeatureStore,
    *,
    window_s: int = 1,
    annotators: Split = "all",
    progress: ReadingProgress | None = None,
) -> dict[str, dict[str, Float32Array]]:
    """Features of each level and run: level -> run -> (n_layers, n_trs, n_features) float32, undelayed.

    In each second the states of the annotators who wrote something are averaged; a second in which nobody did is the
    zero vector. A text that several annotators or levels share is read once.

    Parameters
    ----------
    levels : names of levels, with ``@`` of twins in other languages (``speech@jp``).
    window_s : seconds of text up to and with the present one; see :meth:`Annotation.windows`.
    annotators : all, or one of two halves, for quality control.

    Raises
    ------
    UserError
        for a level that has one annotator where half of them was asked for.
    """
    features: dict[str, dict[str, Float32Array]] = {level: {} for level in levels}
    for done, (name, run) in enumerate(runs.items()):
        reader = _Reader(model, run, window_s, annotators, progress, (done, len(runs)), levels)
        for level in levels:
            key = {
                "stage": "annotation features",
                "stage_version": STAGE_VERSION,
                "model": asdict(model.identity),
                "run": run.sha256,
                "level": level,
                "window_s": window_s,
                "annotators": annotators,
            }
            features[level][name] = store.get(key, partial(reader.features, level))
    return features


class _Reader:
    """Reads the texts of all levels of a run in one go, when the first level is not in the store."""

    def __init__(
        self,
        model: WordModel,
        run: Run,
        window_s: int,
        annotators: Split,
        progress: ReadingProgress | None,
        position: tuple[int, int],
        levels: Sequence[str],
    ) -> None:
        self._model = model
        self._run = run
        self._annotations = {level: run.annotations[level].split(annotators) for level in levels}
        self._window_s = window_s
        self._progress = progress
        self._position = position
        self._windows: dict[str, list[list[str]]] = {}
        self._rows: dict[str, int] = {}
        self._states: Float32Array | None = None

    def features(self, level: str) -> Float32Array:
        """(n_layers, n_trs, n_features)."""
        states = self._read()
        return average_annotators(states, self._rows, self._windows[level])[:, self._run.seconds]

    def _read(self) -> Float32Array:
        if self._states is None:
            self._windows = {level: a.windows(self._window_s) for level, a in self._annotations.items()}
            texts = [text for rows in self._windows.values() for row in rows for text in row if text]
            self._rows = {text: k for k, text in enumerate(dict.fromkeys(texts))}

            def report(texts_done: int, n_texts: int) -> None:
                """Texts that were read, at the place of the run."""
                if self._progress is not None:
                    self._progress(*self._position, texts_done, n_texts)

            self._states = read_texts(self._model, list(self._rows), report)
        return self._states


def average_annotators(states: Float32Array, rows: Mapping[str, int], windows: Sequence[Sequence[str]]) -> Float32Array:
    """Mean over the annotators who wrote something in each second, zero where nobody did.

    Parameters
    ----------
    states : (n_layers, n_texts, n_features); rows : text -> its row there.
    windows : (n_annotators, n_seconds) texts, empty where there is none.

    Returns
    -------
    (n_layers, n_seconds, n_features) float32.
    """
    n_seconds = len(windows[0])
    total = np.zeros((states.shape[0], n_seconds, states.shape[2]), dtype=np.float32)
    counts = np.zeros(n_seconds)
    for row in windows:
        written = np.array([second for second, text in enumerate(row) if text], dtype=np.intp)
        if len(written):
            total[:, written] += states[:, [rows[row[second]] for second in written]]
            counts[written] += 1
    mean: Float32Array = (total / np.maximum(counts, 1)[:, None]).astype(np.float32)
    return mean


def text_columns(annotation: Annotation) -> NDArray[np.float64]:
    """(n_seconds, 4) what a level's texts are like without reading them: the confounds of a level.

    Share of annotators who wrote, log(1 + words) and letters a word (means over those who wrote, 0 if none did), and
    the share of annotators whose text is another one than a second ago.
    """
    present = annotation.present
    n_words = np.array([[len(text.split()) for text in row] for row in annotation.texts], dtype=np.float64)
    n_letters = np.array([[len(text.replace(" ", "")) for text in row] for row in annotation.texts], dtype=np.float64)
    writing = np.maximum(present.sum(axis=0), 1)
    per_word = np.divide(n_letters, n_words, out=np.zeros_like(n_letters), where=n_words > 0)
    changed = np.array(
        [[second == 0 or text != row[second - 1] for second, text in enumerate(row)] for row in annotation.texts]
    )
    return np.column_stack(
        [
            present.mean(axis=0),
            np.log1p(n_words).sum(axis=0) / writing,
            per_word.sum(axis=0) / writing,
            changed.mean(axis=0),
        ]
    )


def film_confounds(run: Run, levels: Sequence[str]) -> NDArray[np.float64]:
    """(n_trs, n_columns) the confounds of a run: sound and picture where they are given, and the form of the texts.

    Four columns a level (:func:`text_columns`) and how far the run has gone, as exp(-seconds / 30).
    """
    tables = [table for table in (run.acoustics, run.visuals) if table is not None]
    tables += [text_columns(run.annotations[level])[run.seconds] for level in levels]
    onset = np.exp(-np.arange(run.n_trs) * run.tr / 30.0)
    return np.column_stack([*tables, onset])
