# SPDX-License-Identifier: Apache-2.0
"""A small folder in the format of OpenNeuro ds005531: MATLAB 7.3 responses, masks, each-second files, released features."""

from pathlib import Path

import h5py
import numpy as np
import scipy.io

from voxelboard.benchmark.readers.cards import Card, FilmEpisode, FilmSplit, FilmTitle, load_card

VOLUME = 90  # voxels of the twin's volume; the real one has 96 * 96 * 72
MASK = np.array([3, 7, 8, 20, 41, 66, 89])  # 1-based, as MATLAB counts
HEADER_BYTES = 512  # MATLAB writes 7.3 files behind a header of its own

RUNS = {
    "heroes": {"heroes_run-01": 70, "heroes_run-02": 90, "heroes_run-03": 90},
    "gis": {"gis_run-01": 70, "gis_run-02": 90},
    "gis2": {"gis_run-03": 70, "gis_run-04": 90},
    "suits": {"suits_run-01": 80, "suits_run-02": 80},
}


def twin_card() -> Card:
    """The card of the real data set with the runs of the twin."""
    split = FilmSplit(
        kind="films",
        overlap_s=20,
        titles={
            "heroes": FilmTitle(fold=0, episodes=(FilmEpisode(runs=RUNS["heroes"], test=("heroes_run-03",)),)),
            "gis": FilmTitle(
                fold=1,
                episodes=(FilmEpisode(runs=RUNS["gis"]), FilmEpisode(runs=RUNS["gis2"], test=("gis_run-04",))),
            ),
            "suits": FilmTitle(fold=2, episodes=(FilmEpisode(runs=RUNS["suits"]),)),
        },
    )
    return load_card("ds005531").model_copy(update={"split": split, "files": ()})


def write_twin(folder: Path, subjects: tuple[str, ...] = ("S01", "S02")) -> Path:
    """Write the twin; voxel v of subject s at second t of a run is s * 1000 + t + v / 1000 plus noise."""
    rng = np.random.default_rng(5)
    annotation, feature = (folder / "derivatives" / name for name in ("annotation", "feature"))
    for place in (annotation, feature):
        place.mkdir(parents=True)
    for title in RUNS.values():
        for run, n_seconds in title.items():
            _write_annotations(annotation, run, n_seconds)
            stim = rng.standard_normal((n_seconds, 16)).astype(np.float32)
            scipy.io.savemat(feature / f"{run}_story_GPT2medium_jp_layer12_mean.mat", {"stim": stim})
    for number, subject in enumerate(subjects):
        place = folder / "derivatives" / "preprocessed_data" / f"sub-{subject}"
        place.mkdir(parents=True)
        scipy.io.savemat(place / "vset_100.mat", {"tvoxels": MASK[:, None].astype(np.float64)})
        for title in RUNS.values():
            for run, n_seconds in title.items():
                clock = np.arange(n_seconds + 3)[:, None]  # the scanner runs on behind the film
                table = 1000.0 * (number + 1) + clock + np.arange(VOLUME) / 1000
                write_mat73(place / f"sub-{subject}_task-{run}.mat", table + rng.standard_normal(table.shape))
    return folder


def write_mat73(path: Path, table: np.ndarray) -> None:
    """A MATLAB 7.3 file: HDF5 behind 512 bytes of text."""
    with h5py.File(path, "w", userblock_size=HEADER_BYTES) as file:
        data = file.create_dataset("dataDT", data=table.astype(np.float32), compression="gzip", chunks=True)
        data.attrs["MATLAB_class"] = np.bytes_("single")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(116))


def write_index(folder: Path, seconds: dict[str, int]) -> None:
    """``dataInfo.mat`` of the companion repository, with one film that has all runs."""
    place = "%s/derivatives/preprocessed_data/sub-S01/sub-S01_task-"
    runs = [
        {"file": f"{place}{run}.mat", "samples": np.arange(21, n + 1, dtype=np.uint16), "duration": n}
        for run, n in seconds.items()
    ]
    film = {"title": "heroes", "run": np.array(runs, dtype=object)}
    subject = {"name": "sub-S01", "mov": np.array([film], dtype=object)}
    scipy.io.savemat(folder / "dataInfo.mat", {"subject": np.array([subject], dtype=object)})


def _write_annotations(folder: Path, run: str, n_seconds: int) -> None:
    def lines(write: object) -> str:
        return "".join(f"[00:{t // 60:02d}:{t % 60:02d}]{write(t)}\n" for t in range(n_seconds))  # type: ignore[operator]

    texts = {
        "speechTranscription": lambda t: f"メイン#ハル:やあ{t}/アキ:うん" if t % 3 else "メイン#..",
        "speechTranscription_EN": lambda t: f"メイン#Haru:hello {t}/Aki:yes" if t % 3 else "メイン#..",
        "objectiveAnnot50chara": lambda t: "/".join(f"人が{k}人いる{t % 7}" for k in range(5)),
        "story": lambda t: f"船が沈む{t // 5}/..",
    }
    for stem, write in texts.items():
        (folder / f"{run}_{stem}_each1sec.txt").write_text(lines(write), encoding="utf-8")
