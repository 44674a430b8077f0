# SPDX-License-Identifier: Apache-2.0
"""Small synthetic twins of public narrative data in their exact on-disk formats, quirks included."""

import json
from pathlib import Path

import h5py
import nibabel
import numpy as np

TEST_STORY = "wheretheressmoke"
LEBEL_STORIES = {"apples": 33, "birds": 30, TEST_STORY: 31}  # story -> rows of its responses
LEBEL_VOXELS = 7
PIEMAN_VOLUMES = 300
N_VERTICES = 6


def long_textgrid(marks: list[tuple[float, float, str]], words: str = "word") -> str:
    rows = "".join(
        f'        intervals [{k}]: \n            xmin = {a} \n            xmax = {b} \n            text = "{w}" \n'
        for k, (a, b, w) in enumerate(marks, 1)
    )
    tiers = "".join(
        f'    item [{k}]: \n        class = "IntervalTier" \n        name = "{name}" \n        xmin = 0 \n'
        f"        xmax = 99 \n        intervals: size = {len(marks)} \n{rows}"
        for k, name in enumerate(("phone", words), 1)
    )
    head = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0 \nxmax = 99 \ntiers? <exists> \nsize = 2 \n'
    return f"{head}item []: \n{tiers}"


def chronological_textgrid(marks: list[tuple[float, float, str]]) -> str:
    """All tiers in one sequence, by time, with Praat's remarks."""
    head = (
        '"Praat chronological TextGrid text file"\n0 99   ! Time domain.\n2   ! Number of tiers.\n'
        '"IntervalTier" "phone" 0 99\n"IntervalTier" "word" 0 99\n'
    )
    return head + "".join(f'\n1 {a} {b}\n"P{k}"\n2 {a} {b}\n"{w}"\n' for k, (a, b, w) in enumerate(marks))


def spoken(n_rows: int, tr: float = 2.0) -> list[tuple[float, float, str]]:
    """Marks on the clock of the sound: rows start at second 10. Aligner marks, braces, capitals and overlaps."""
    marks = [(0.0, 1.0, "sentence_start"), (1.0, 2.0, "Early"), (2.0, 9.9, "ns"), (9.9, 10.2, "STRADDLES")]
    marks += [(10.0 + tr * t, 10.5 + tr * t, f"Word{t}") for t in range(n_rows)]
    marks[6] = (10.4 + tr, 10.9 + tr, "{BR}")
    marks[8] = (10.0 + 2 * tr, 10.7 + 3 * tr, "overlaps")  # starts with the word before it, ends after the next began
    return [*marks, (10.0 + tr * n_rows + 1, 12.0 + tr * n_rows, "late"), (97.0, 98.0, "")]


def write_hf5(path: Path, **arrays: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)


def write_lebel(folder: Path, subjects: tuple[str, ...] = ("UTS01", "UTS04")) -> dict[str, np.ndarray]:
    """ds003020: one grid in long form with a byte-order mark, one chronological. Gives the test repeats by subject."""
    derivative = folder / "derivative"
    grids = derivative / "TextGrids"
    grids.mkdir(parents=True)
    for k, (story, n_rows) in enumerate(LEBEL_STORIES.items()):
        text = chronological_textgrid(spoken(n_rows)) if k % 2 else long_textgrid(spoken(n_rows))
        (grids / f"{story}.TextGrid").write_text(text, encoding="utf-8" if k % 2 else "utf-8-sig")
    volumes = {story: n_rows + 20 for story, n_rows in LEBEL_STORIES.items()}
    (derivative / "respdict.json").write_text(json.dumps({**volumes, "unused": 300}))
    repeats = {}
    for number, subject in enumerate(subjects):
        rng = np.random.default_rng([number, 1])
        place = derivative / "preprocessed_data" / subject
        for story, n_rows in LEBEL_STORIES.items():
            if story == TEST_STORY:
                repeats[subject] = rng.standard_normal((5, n_rows, LEBEL_VOXELS))
                mean = repeats[subject].mean(axis=0)
                write_hf5(place / f"{story}.hf5", data=mean, individual_repeats=repeats[subject])
            elif (subject, story) != ("UTS04", "birds"):
                write_hf5(place / f"{story}.hf5", data=rng.standard_normal((n_rows, LEBEL_VOXELS)))
    return repeats


def write_surface(path: Path, series: np.ndarray) -> None:
    """A functional GIfTI: one darray a TR. ``series`` is (n_trs, n_vertices)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = [nibabel.gifti.GiftiDataArray(row.astype(np.float32), intent="NIFTI_INTENT_TIME_SERIES") for row in series]
    nibabel.save(nibabel.gifti.GiftiImage(darrays=arrays), path)


# word as written, as aligned, onset, offset on the clock of the audio; pieman's story starts at second 15
PIEMAN_WORDS = 'I,i,15.1,15.3\nbegan,,,\n"my, illustrious",,,\ncareer,<unk>,16.5,17.0\nin,in,17.0,17.2\n'


def write_narratives(folder: Path, scans: dict[str, int]) -> dict[str, np.ndarray]:
    """ds002345: scans such as ``sub-001_task-pieman_run-1`` -> number of volumes. Gives (n_trs, 2 n_vertices) by scan."""
    gentle = folder / "stimuli" / "gentle" / "pieman"
    gentle.mkdir(parents=True)
    (gentle / "align.csv").write_text(PIEMAN_WORDS + "last,last,300.0,300.4\nlate,,,\n", encoding="utf-8")
    written = {}
    for number, (scan, n_volumes) in enumerate(scans.items()):
        series = np.random.default_rng([number, 2]).standard_normal((n_volumes, 2 * N_VERTICES)).astype(np.float32)
        for k, hemisphere in enumerate("LR"):
            name = f"{scan}_space-fsaverage6_hemi-{hemisphere}_desc-clean.func.gii"
            place = folder / "derivatives" / "afni-nosmooth" / scan.partition("_")[0] / "func" / name
            write_surface(place, series[:, k * N_VERTICES : (k + 1) * N_VERTICES])
        written[scan] = series
    return written
