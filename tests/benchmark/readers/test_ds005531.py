# SPDX-License-Identifier: Apache-2.0
"""The reader of ds005531 on a twin in its format; the run table of the real one against the numbers of the paper."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from ds005531_twin import MASK, RUNS, twin_card, write_index, write_mat73, write_twin

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.readers.cards import FilmSplit, load_card
from voxelboard.benchmark.readers.drama_base import PresentedRuns, check_title_folds
from voxelboard.benchmark.readers.ds005531 import Ds005531
from voxelboard.benchmark.readers.registry import open_dataset


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_twin(tmp_path_factory.mktemp("twin"))


@pytest.fixture
def own(twin: Path, tmp_path: Path) -> Path:
    """A twin of one's own, to be broken."""
    return Path(shutil.copytree(twin, tmp_path / "twin"))


def test_run_table_of_the_card_gives_the_published_numbers() -> None:
    split = load_card("ds005531").split
    assert isinstance(split, FilmSplit)
    kept: dict[str, int] = {}
    folds: dict[int, int] = {}
    for title in split.titles.values():
        for episode in title.episodes:
            for position, (run, n) in enumerate(episode.runs.items()):
                seconds = n - (split.overlap_s if position else 0)
                kept[run] = seconds
                if run not in episode.test:
                    folds[title.fold] = folds.get(title.fold, 0) + seconds
    test = [run for title in split.titles.values() for episode in title.episodes for run in episode.test]
    # Nakagi et al. 2024: 22,262 training and 7,737 test samples; the folds are summed from the authors' table of runs
    assert sum(kept.values()) - sum(kept[run] for run in test) == 22_262
    assert sum(kept[run] for run in test) == 7_737
    assert folds == {0: 5_523, 1: 6_313, 2: 5_980, 3: 4_446}


def test_texts_voxels_and_overlap(twin: Path) -> None:
    data = Ds005531(twin_card(), twin)
    assert data.levels == ("speech", "object", "story")
    run = data.runs["heroes_run-02"]
    assert (run.n_trs, run.skip_trs) == (90, 20)
    assert data.runs["gis_run-03"].skip_trs == 0  # a second episode starts anew
    assert run.annotations["speech"].texts[0][:3] == ("", "やあ1 うん", "やあ2 うん")
    assert run.annotations["speech@en"].texts[0][1] == "hello 1 yes"
    assert [a[0] for a in run.annotations["story"].texts] == ["船が沈む0", ""]
    assert run.annotations["object"].n_annotators == 5
    responses = data.responses("S02")
    table = responses.runs["heroes_run-02"]
    assert table.shape == (1, 90, len(MASK))  # rows behind the end of the film are cut off
    expected = 2000 + np.arange(90)[:, None] + (MASK - 1) / 1000
    assert np.abs(table[0] - expected).max() < 5
    assert responses.rois.tolist() == ["cortex"] * len(MASK)
    assert [segment.story for segment in data.split.test_segments] == ["heroes_run-03", "gis_run-04"]
    ((train, test),) = PresentedRuns(data).split.folds
    assert len(set(check_title_folds(data.runs, train, test, data.inner_folds).tolist())) == 3


def test_variants(twin: Path, own: Path) -> None:
    english = Ds005531(twin_card(), twin, "en")
    assert english.runs["suits_run-01"].annotations["speech"].texts[0][1] == "hello 1 yes"
    assert "speech@jp" in english.runs["suits_run-01"].annotations
    (own / "rois").mkdir()
    (own / "rois" / "S01.txt").write_text("AC\nAC\n-\nVC\nVC\nVC\n-\n")
    labelled = Ds005531(twin_card(), own, "rois")
    assert (labelled.subjects, labelled.scored_rois) == (("S01",), ("AC", "VC"))
    assert labelled.responses("S01").runs["suits_run-01"].shape == (1, 80, 5)
    with pytest.raises(UserError, match="no variant 'fr'"):
        Ds005531(twin_card(), twin, "fr")
    with pytest.raises(DataError, match="needs files of labels"):
        Ds005531(twin_card(), twin, "rois")


def test_released_features(twin: Path) -> None:
    data = Ds005531(twin_card(), twin)
    assert data.released_features("heroes_run-01", "story", "GPT2medium_jp_layer12_mean").shape == (70, 16)
    with pytest.raises(MissingPrerequisite, match="layer13"):
        data.released_features("heroes_run-01", "story", "GPT2medium_jp_layer13_mean")


def test_index_of_the_authors_is_compared(own: Path) -> None:
    seconds = {run: n for runs in RUNS.values() for run, n in runs.items()}
    write_index(own, seconds)
    Ds005531(twin_card(), own)
    write_index(own, {**seconds, "heroes_run-02": 91})
    with pytest.raises(DataError, match="heroes_run-02 has 91 s, the card says 90"):
        Ds005531(twin_card(), own)


@pytest.mark.parametrize(("n", "word"), [(89, "shorter"), (91, "longer")])
def test_annotation_of_another_length_is_refused(own: Path, n: int, word: str) -> None:
    path = own / "derivatives" / "annotation" / "heroes_run-02_story_each1sec.txt"
    path.write_text("[00]x/..\n" * n, encoding="utf-8")
    with pytest.raises(DataError, match=f"{n} lines, {word} than the run"):
        Ds005531(twin_card(), own)


def test_damaged_responses_are_refused(own: Path) -> None:
    folder = own / "derivatives" / "preprocessed_data" / "sub-S01"
    write_mat73(folder / "sub-S01_task-suits_run-01.mat", np.zeros((50, 90)))
    with pytest.raises(DataError, match=r"shape \(50, 90\), expected \(n_trs >= 80"):
        Ds005531(twin_card(), own).responses("S01")
    write_mat73(folder / "sub-S01_task-suits_run-01.mat", np.zeros((90, 80)))
    with pytest.raises(DataError, match="axes the other way round"):
        Ds005531(twin_card(), own).responses("S01")
    scipy.io.savemat(folder / "vset_100.mat", {"tvoxels": np.array([0.0, 3, 3])})
    with pytest.raises(DataError, match="different numbers from 1"):
        Ds005531(twin_card(), own).responses("S01")


def test_missing_files_and_subjects(own: Path) -> None:
    data = Ds005531(twin_card(), own)
    with pytest.raises(MissingPrerequisite, match="no responses of S03"):
        data.responses("S03")
    with pytest.raises(UserError, match="unknown subject"):
        data.responses("X")
    (own / "derivatives" / "annotation" / "suits_run-02_story_each1sec.txt").unlink()
    with pytest.raises(MissingPrerequisite, match="suits_run-02_story"):
        Ds005531(twin_card(), own)


def test_card_is_opened_by_name_and_missed_with_a_hint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOXELBOARD_HOME", str(tmp_path))
    with pytest.raises(MissingPrerequisite, match="ds005531"):
        open_dataset("ds005531", "drama")
    card = load_card("ds005531")
    assert any("Three of the paper's five levels" in defect for defect in card.known_defects)
    assert sum(file.subject == "S01" for file in card.files) == 42 - 1 + 1
