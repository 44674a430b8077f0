# SPDX-License-Identifier: Apache-2.0
"""Which image each trial of the Natural Scenes Dataset showed: three tables that must agree, and the images seen three times."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.readers.arrays import require_file
from voxelboard.benchmark.readers.matlab import read_matlab

IntArray = NDArray[np.int64]

REPEATS = 3
_DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
_STIMULI = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
_HINT = "get the file again from naturalscenesdataset.org; the access agreement covers it"


@dataclass(frozen=True, eq=False)
class Stimuli:
    """The table of all images, row by NSD id (0-based).

    coco_ids, coco_splits : (n_images,); shared : (n_images,) True for the images that were meant for all subjects.
    """

    coco_ids: IntArray
    coco_splits: NDArray[np.str_]
    shared: NDArray[np.bool_]
    table: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Design:
    """The order of images, the same for all subjects but for their own images.

    order : (n_trials,) 1-based position in a subject's list; images : (n_subjects, n_per_subject) 1-based NSD ids.
    """

    order: IntArray
    images: IntArray

    def shown(self, subject: int, n_trials: int) -> IntArray:
        """(n_trials,) NSD id (0-based) of each of the first trials of a subject (0-based)."""
        return np.asarray(self.images[subject, self.order[:n_trials] - 1] - 1)


def read_design(folder: Path) -> Design:
    """``nsd_expdesign.mat``: masterordering and subjectim, both 1-based as MATLAB counts.

    Raises
    ------
    MissingPrerequisite, DataError
        for a file that is not there, or holds something else.
    """
    found = read_matlab(folder / _DESIGN, "masterordering", "subjectim", hint=_HINT)
    order, images = (np.atleast_1d(found[name]).astype(np.int64) for name in ("masterordering", "subjectim"))
    if order.ndim != 1 or images.ndim != 2 or order.min() < 1 or order.max() > images.shape[1] or images.min() < 1:
        raise DataError(
            f"nsd_expdesign.mat: masterordering {order.shape} from {order.min()} to {order.max()} does not count the "
            f"images of subjectim {images.shape} from 1",
            _HINT,
        )
    return Design(order, images)


def read_stimuli(folder: Path) -> Stimuli:
    """``nsd_stim_info_merged.csv``; its column nsdId counts from 0, unlike all other tables.

    Raises
    ------
    MissingPrerequisite, DataError
        for a file that is not there, lacks a column, or whose rows are not in the order of nsdId.
    """
    path = require_file(folder / _STIMULI, _HINT)
    try:
        table = pd.read_csv(path, index_col=0)
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(f"{path.name} is no table: {error}", _HINT) from error
    missing = [name for name in ("cocoId", "cocoSplit", "nsdId", "shared1000") if name not in table]
    if missing:
        raise DataError(f"{path.name} lacks the columns {', '.join(missing)}", _HINT)
    if not np.array_equal(table["nsdId"].to_numpy(), np.arange(len(table))):
        raise DataError(f"{path.name}: nsdId does not count the rows from 0", _HINT)
    return Stimuli(
        table["cocoId"].to_numpy(dtype=np.int64),
        table["cocoSplit"].to_numpy().astype(str),
        table["shared1000"].to_numpy().astype(bool),
        table,
    )


def trials_of(folder: Path, design: Design, stimuli: Stimuli, subject: str, n_trials: int) -> IntArray:
    """(n_trials,) NSD id of each trial, checked against the behavioural log and the table of images.

    Raises
    ------
    DataError
        where the three tables disagree, with the first trial, and for an image that is shown more than three times.
    """
    number = int(subject.removeprefix("subj")) - 1
    shown = design.shown(number, n_trials)
    if len(shown) < n_trials or shown.max() >= len(stimuli.coco_ids):
        raise DataError(f"{subject}: the design has {len(shown)} trials of images up to {shown.max()}", _HINT)
    path = require_file(folder / "nsddata" / "ppdata" / subject / "behav" / "responses.tsv", _HINT)
    log = pd.read_csv(path, sep="\t")
    if "73KID" not in log or len(log) < n_trials:
        raise DataError(
            f"{path.name} of {subject}: {len(log)} rows, column 73KID {'there' if '73KID' in log else 'missing'}", _HINT
        )
    wrong = np.flatnonzero(log["73KID"].to_numpy()[:n_trials] - 1 != shown)
    if len(wrong):
        raise DataError(
            f"{subject}, trial {wrong[0] + 1}: the log says image {log['73KID'].iloc[wrong[0]]} (1-based), the design "
            f"{shown[wrong[0]] + 1}",
            "the files are of different releases",
        )
    counts = np.bincount(shown, minlength=len(stimuli.coco_ids))
    if counts.max() > REPEATS:
        raise DataError(
            f"{subject}: image {int(counts.argmax())} is shown {counts.max()} times, {REPEATS} are the most",
            "repeats are duplicated: get nsd_expdesign.mat again",
        )
    _check_repeats(stimuli, shown, subject, number)
    return shown


def _check_repeats(stimuli: Stimuli, shown: IntArray, subject: str, number: int) -> None:
    """The columns subjectN_rep0 .. rep2 hold 1-based trials, 0 for images that are not shown; they must agree."""
    names = [f"subject{number + 1}_rep{k}" for k in range(REPEATS)]
    if not all(name in stimuli.table for name in names):
        raise DataError(f"nsd_stim_info_merged.csv lacks {', '.join(names)}", _HINT)
    trials = stimuli.table[names].to_numpy(dtype=np.int64)
    images, repeats = np.nonzero((trials > 0) & (trials <= len(shown)))
    wrong = np.flatnonzero(shown[trials[images, repeats] - 1] != images)
    if len(wrong) or len(images) != len(shown):
        where = f", the first at image {images[wrong[0]]}" if len(wrong) else ""
        raise DataError(
            f"{subject}: the table of images names {len(images)} of {len(shown)} trials, {len(wrong)} of them another "
            f"image than the design{where}",
            "the files are of different releases",
        )


def shared_test_images(design: Design, stimuli: Stimuli, n_trials: Mapping[str, int], n_expected: int) -> IntArray:
    """The shared images that every subject saw three times: 515 in the released data, the test set of the field.

    Parameters
    ----------
    n_trials : subject -> trials that were scanned, for all subjects of the data set.

    Raises
    ------
    DataError
        when their number is not the card's.
    """
    complete = stimuli.shared.copy()
    for subject, n in n_trials.items():
        shown = design.shown(int(subject.removeprefix("subj")) - 1, n)
        complete &= np.bincount(shown, minlength=len(complete)) == REPEATS
    found = np.flatnonzero(complete)
    if len(found) != n_expected:
        raise DataError(
            f"{len(found)} shared images have {REPEATS} repeats in all subjects, the card says {n_expected}",
            "nsd_expdesign.mat and nsd_stim_info_merged.csv are of different releases, or repeats are missing",
        )
    return found.astype(np.int64)
