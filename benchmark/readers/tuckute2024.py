# SPDX-License-Identifier: Apache-2.0
"""Tuckute et al. 2024: a thousand unrelated sentences, the language network of five people."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.readers.arrays import require_file
from voxelboard.benchmark.readers.cards import Card
from voxelboard.benchmark.readers.sentence_sets import SHUFFLED, SentenceRow, SentenceSet

FILE = "data/brain-lang-data_participant_20230728.csv"
N_FOLDS = 10
_COLUMNS = ("response_target", "roi", "target_UID", "item_id", "sentence", "cond")
_BASELINE = "B"  # sentences that were chosen without a model; D and S were chosen to drive or suppress


class Tuckute2024:
    """The table of the release, one row a person, region and sentence."""

    def __init__(self, card: Card, folder: Path) -> None:
        path = require_file(folder / FILE, "voxelboard data fetch tuckute2024")
        try:
            table = pd.read_csv(path, usecols=list(_COLUMNS), dtype={"target_UID": str, "roi": str, "cond": str})
        except (ValueError, pd.errors.ParserError) as error:
            raise DataError(f"{path.name} is not the table of the release: {error}", "get the file again") from error
        wanted = table["cond"].eq(_BASELINE) & table["target_UID"].isin(card.subjects)
        self._table = table[wanted & table["roi"].isin(card.scored_rois)]
        self._rois = card.scored_rois
        sentences = self._table.drop_duplicates("item_id").sort_values("item_id")
        if sentences.empty:
            raise DataError(
                f"{path.name} has no baseline sentences of {', '.join(card.subjects)}", "get the file again"
            )
        self._items = sentences["item_id"].tolist()
        # unrelated sentences: each is its own passage, and contiguous items are left out together
        n_items = len(self._items)
        self.rows = [
            SentenceRow(str(text), str(item), f"{k * N_FOLDS // n_items:02d}")
            for k, (text, item) in enumerate(zip(sentences["sentence"], self._items, strict=True))
        ]
        here = set(self._table["target_UID"])
        self.subjects = tuple(subject for subject in card.subjects if subject in here)

    def read(self, subject: str) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
        """Responses of a subject, (1, n_sentences, n_rois), in the order of the items, and the ROI of each column."""
        own = self._table[self._table["target_UID"] == subject]
        if own.duplicated(["item_id", "roi"]).any():
            raise DataError(f"subject {subject}: a sentence comes twice in a region", "get the file again")
        wide = own.pivot_table(index="item_id", columns="roi", values="response_target", aggfunc="first")
        wide = wide.reindex(index=self._items, columns=list(self._rois))
        if wide.isna().to_numpy().any():
            n_missing = int(wide.isna().to_numpy().sum())
            raise DataError(f"subject {subject}: {n_missing} responses are missing", "leave this subject out")
        return wide.to_numpy(dtype=np.float32)[None], np.array(self._rois)


def open_tuckute2024(card: Card, folder: Path, variant: str) -> SentenceSet:
    """The 1,000 baseline sentences and the five people whom the authors trained on, regions as voxels.

    ``shuffled-leak`` exists for symmetry: the sentences are unrelated, so it should change nothing.

    Raises
    ------
    UserError
        for an unknown variant.
    MissingPrerequisite, DataError
        for a table that is missing, damaged, or lacks responses.
    """
    if variant not in ("", SHUFFLED):
        raise UserError(f"{card.name} has no variant {variant!r}", f"write {card.name}")
    table = Tuckute2024(card, folder)
    name = f"{card.name}:{variant}" if variant else card.name
    return SentenceSet(
        card, name, table.rows, table.subjects, table.read, n_folds=N_FOLDS, shuffled=variant == SHUFFLED
    )
