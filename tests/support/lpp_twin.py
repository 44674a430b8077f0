# SPDX-License-Identifier: Apache-2.0
"""A small synthetic twin of ds003643 in its on-disk formats: run numbers, defects of the word table, MNI grid."""

from pathlib import Path

import nibabel
import numpy as np

GRID = (4, 5, 3)
AFFINE = np.array([[-2.0, 0, 0, 4], [0, 2.0, 0, -4], [0, 0, 2.0, 0], [0, 0, 0, 1]])
VOLUMES = {language: tuple(20 + k for k in range(9)) for language in ("EN", "FR", "CN")}
FIRST_RUN = {"sub-EN057": 15, "sub-EN058": 1, "sub-FR001": 1}
HEADER = ",word,lemma,onset,offset,logfreq,pos,section,top_down,bottom_up,left_corner"


def word_table(language: str) -> str:
    """A word every 1.5 s; a row that is to be left out, one without times, one that starts too early, a quoted comma."""
    lines, index = [HEADER], 0
    for section in range(1, 10):
        for k in range(20):
            onset, offset = 0.1 + 1.5 * k, 0.6 + 1.5 * k
            word, times = f"w{section}.{k}", f"{onset:.3f},{offset:.3f}"
            if k == 3:
                times = ","
            if k == 5:
                times = f"{onset - 2:.3f},{offset:.3f}"
            if k == 7:
                word = '"comma, word"'
            lines.append(f"{index},{word},{word},{times},-3.2,NOUN,{section},1,2,3")
            index += 1
        if language == "EN" and section == 4:
            lines.append(f"3919,twice,twice,29.0,29.4,-3.2,NOUN,{section},1,2,3")
    return "\ufeff" + "\n".join(lines) + "\n"


def write_lpp(
    folder: Path, subjects: tuple[str, ...] = ("sub-EN057", "sub-EN058", "sub-FR001")
) -> dict[tuple[str, int], np.ndarray]:
    """Gives (x, y, z, n_trs) by subject and section."""
    for language in ("EN", "FR"):
        path = folder / "annotation" / language / f"lpp{language}_word_information.csv"
        path.parent.mkdir(parents=True)
        path.write_text(word_table(language), encoding="utf-8")
    written = {}
    for number, subject in enumerate(subjects):
        language = subject[4:6]
        place = folder / "derivatives" / subject / "func"
        place.mkdir(parents=True)
        for k, n_volumes in enumerate(VOLUMES[language]):
            series = np.random.default_rng([number, k]).standard_normal((*GRID, n_volumes)).astype(np.float32)
            run = FIRST_RUN[subject] + k
            name = f"{subject}_task-lpp{language}_run-{run:02d}_space-MNIColin27_desc-preproc_bold.nii.gz"
            nibabel.save(nibabel.Nifti1Image(series, AFFINE), place / name)
            written[subject, k + 1] = series
    return written


def write_mask(folder: Path) -> np.ndarray:
    """A mask on the grid, in ``rois``: all but one slice."""
    mask = np.ones(GRID, dtype=np.uint8)
    mask[0] = 0
    (folder / "rois").mkdir()
    nibabel.save(nibabel.Nifti1Image(mask, AFFINE), folder / "rois" / "mask.nii.gz")
    return mask.astype(bool)
