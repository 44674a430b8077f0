# SPDX-License-Identifier: Apache-2.0
"""The LeBel reader on a small twin in the same format, and on the real components against published figures."""

import gzip
import json
import os
import zipfile

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.readers.base import check_responses
from voxelboard.benchmark.readers.cards import StorySplit, load_card
from voxelboard.benchmark.readers.lebel2023_pcs import Lebel2023Components, spread_words

STORIES = {"train__apples": 30, "train__birds": 20, "test__clouds": 25}
CARD = load_card("lebel2023-pcs").model_copy(
    update={"split": StorySplit(kind="stories", train=("apples", "birds"), test=("clouds",))}
)


def rows_of(key: str, n_trs: int) -> list[str]:
    """Texts with an empty TR, a blank one and a glued word."""
    return ["", " ", "aiaiai don't"] + [f"{key[-3:]} word{t}" for t in range(n_trs - 3)]


def write_subject(folder, subject, stories):
    rng = np.random.default_rng(len(subject) + len(stories))
    arrays = {key: rng.standard_normal((n, 200)).astype(np.float16) for key, n in stories.items()}
    np.savez_compressed(folder / f"{subject.lower()}_pcs200_float16.npz", **arrays)
    return arrays


@pytest.fixture
def twin(tmp_path):
    texts = {key: rows_of(key, n) for key, n in STORIES.items()}
    (tmp_path / "texts_per_tr.json").write_text(json.dumps(texts))
    write_subject(tmp_path, "UTS01", {key: n for key, n in STORIES.items() if key != "train__birds"})
    write_subject(tmp_path, "UTS02", STORIES)
    return tmp_path


def test_the_words_of_a_tr_are_placed_evenly_inside_it():
    words, onsets, offsets = spread_words(["", "one", "two three four five"], 2.0)
    assert words == ["one", "two", "three", "four", "five"]
    assert onsets == [2.0, 4.0, 4.5, 5.0, 5.5]
    assert offsets == [4.0, 4.5, 5.0, 5.5, 6.0]


def test_stories_responses_and_split_of_the_twin(twin):
    data = Lebel2023Components(CARD, twin)
    assert list(data.stories) == ["apples", "birds", "clouds"]
    assert data.stories["apples"].words[:2] == ("aiaiai", "don't")
    assert data.stories["apples"].word_trs[0] == 2
    ((train, test),) = data.split.folds
    assert [s.story for s in train] == ["apples", "birds"]
    assert [(s.story, s.start, s.stop) for s in test] == [("clouds", 0, 25)]
    responses = data.responses("UTS02")
    with np.load(twin / "uts02_pcs200_float16.npz") as stored:
        np.testing.assert_array_equal(responses.runs["clouds"][0], stored["test__clouds"].astype(np.float32))
    assert responses.runs["clouds"].dtype == np.float32
    labels, counts = np.unique(responses.rois, return_counts=True)
    assert dict(zip(labels.tolist(), counts.tolist(), strict=True)) == {"PC1-10": 10, "PC11-50": 40, "PC51-200": 150}
    assert (responses.rois[9], responses.rois[10], responses.rois[50]) == ("PC1-10", "PC11-50", "PC51-200")


def test_a_subject_lacks_the_stories_that_it_did_not_hear(twin):
    data = Lebel2023Components(CARD, twin)
    assert data.stories_of("UTS01") == ("apples", "clouds")
    assert set(data.responses("UTS01").runs) == {"apples", "clouds"}
    with pytest.raises(DataError, match="train__birds: there is no such array"):
        data.run("UTS01", "birds")


def test_one_story_is_read_without_the_others(twin):
    """Damage to the bytes of one member leaves the others readable: nothing else is decompressed."""
    path = twin / "uts02_pcs200_float16.npz"
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("train__birds.npy")
    with path.open("r+b") as stream:
        stream.seek(info.header_offset + 200)
        stream.write(b"\x00" * 64)
    data = Lebel2023Components(CARD, twin)
    assert data.run("UTS02", "apples").shape == (1, 30, 200)
    with pytest.raises(DataError, match=r"uts02_pcs200_float16\.npz is truncated or damaged"):
        data.run("UTS02", "birds")
    with pytest.raises(DataError, match="truncated or damaged"):
        data.responses("UTS02")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_npz_is_refused(twin, share):
    path = twin / "uts01_pcs200_float16.npz"
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(DataError, match=r"uts01_pcs200_float16\.npz is truncated or damaged"):
        Lebel2023Components(CARD, twin).responses("UTS01")


def test_pickled_and_integer_arrays_are_refused(twin):
    path = twin / "uts01_pcs200_float16.npz"
    data = Lebel2023Components(CARD, twin)
    np.savez(path, train__apples=np.array([{}], dtype=object), test__clouds=np.zeros((25, 200)))
    with pytest.raises(DataError, match="allow_pickle=False"):
        data.responses("UTS01")
    np.savez(path, train__apples=np.zeros((30, 200), dtype=int), test__clouds=np.zeros((25, 200)))
    with pytest.raises(DataError, match="expected floats"):
        data.responses("UTS01")


def test_texts_and_responses_of_different_length_are_refused(twin):
    write_subject(twin, "UTS02", {**STORIES, "train__apples": 29})
    with pytest.raises(DataError, match="'apples': 29 rows of responses but 30 TRs of stimulus"):
        Lebel2023Components(CARD, twin).responses("UTS02")


@pytest.mark.parametrize(("value", "message"), [(np.nan, "1 voxels with NaN"), (0.0, "1 constant voxels")])
def test_nan_and_constant_components_are_refused(twin, value, message):
    arrays = write_subject(twin, "UTS02", STORIES)
    arrays["train__birds"][:, 7] = value
    np.savez_compressed(twin / "uts02_pcs200_float16.npz", **arrays)
    with pytest.raises(DataError, match=f"'birds': {message}.*the first is 7"):
        Lebel2023Components(CARD, twin).responses("UTS02")


def test_a_run_shorter_than_delays_and_trims_is_refused(twin):
    data = Lebel2023Components(CARD, twin)
    with pytest.raises(DataError, match=r"20 TRs, fewer than the 24 that delays and trims take"):
        check_responses(data.responses("UTS02"), data.stories, min_trs=24)


def test_missing_test_stories_unknown_subjects_and_stories(twin):
    write_subject(twin, "UTS01", {"train__apples": 30})
    data = Lebel2023Components(CARD, twin)
    with pytest.raises(DataError, match="lacks the test stories clouds"):
        data.responses("UTS01")
    with pytest.raises(UserError, match=r"unknown subject of lebel2023-pcs 'UTS1'.*Did you mean 'UTS01'"):
        data.responses("UTS1")
    with pytest.raises(UserError, match="Did you mean 'apples'"):
        data.run("UTS02", "apple")


def test_missing_and_damaged_files(twin):
    (twin / "uts01_pcs200_float16.npz").unlink()
    with pytest.raises(MissingPrerequisite, match="uts01_pcs200_float16"):
        Lebel2023Components(CARD, twin).responses("UTS01")
    texts = twin / "texts_per_tr.json"
    whole = texts.read_text()
    texts.write_text(whole[:100])
    with pytest.raises(DataError, match=r"texts_per_tr\.json is truncated"):
        Lebel2023Components(CARD, twin)
    texts.write_text(json.dumps({"train__apples": ["a"]}))
    with pytest.raises(DataError, match="no list of texts for 'train__birds'"):
        Lebel2023Components(CARD, twin)
    texts.write_text(json.dumps({key: ["", ""] for key in STORIES}))
    with pytest.raises(DataError, match="'apples' has no words"):
        Lebel2023Components(CARD, twin)
    texts.unlink()
    with pytest.raises(MissingPrerequisite, match="texts_per_tr"):
        Lebel2023Components(CARD, twin)


@pytest.fixture(scope="module")
def real(shared_data):
    return Lebel2023Components(load_card("lebel2023-pcs"), shared_data / "lebel2023_pcs")


@pytest.mark.parametrize(("subject", "n_stories", "n_trs"), [("UTS01", 96, 32_997), ("UTS02", 101, 34_786)])
def test_the_real_set_has_the_published_size(real, subject, n_stories, n_trs):
    runs = real.responses(subject).runs
    assert (len(runs), sum(run.shape[1] for run in runs.values())) == (n_stories, n_trs)
    assert real.stories_of(subject) == tuple(runs)


def word_features(story, vectors):
    """(n_trs, 27): word count, letter count and summed GloVe vectors of each TR."""
    table = np.zeros((story.n_words, 27))
    table[:, 0] = 1
    for i, word in enumerate(story.words):
        table[i, 1] = len(word)
        table[i, 2:] = vectors.get(word.lower(), 0.0)
    features = np.zeros((story.n_trs, 27))
    np.add.at(features, story.word_trs, table)
    return features


def delayed(features):
    """FIR delays of 1 to 4 TRs."""
    padded = np.vstack([np.zeros((4, features.shape[1])), features])
    return np.hstack([padded[4 - delay : len(padded) - delay] for delay in (1, 2, 3, 4)])


def column_correlation(a, b):
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))


def held_out_r(data, subject, features):
    """Mean test correlation of plain ridge over the first 10, 50 and 200 components, averaged over test stories."""
    runs = data.responses(subject).runs
    ((train, test),) = data.split.folds
    heard = [segment.story for segment in train if segment.story in runs]
    X = np.concatenate([features[story] for story in heard])
    model = Ridge(alpha=1000.0).fit((X - X.mean(axis=0)) / X.std(axis=0), np.concatenate([runs[s][0] for s in heard]))
    r = np.mean(
        [
            column_correlation(model.predict((features[s.story] - X.mean(axis=0)) / X.std(axis=0)), runs[s.story][0])
            for s in test
        ],
        axis=0,
    )
    return [r[:n].mean() for n in (10, 50, 200)]


@pytest.mark.parametrize(("subject", "expected"), [("UTS01", (0.092, 0.130, 0.099)), ("UTS02", (0.215, 0.160, 0.145))])
def test_words_letters_and_glove_reach_the_published_correlations(real, shared_data, subject, expected):
    with gzip.open(next((shared_data / "glove25").glob("*.gz")), "rt", encoding="utf-8") as lines:
        vectors = {word: np.array(rest, dtype=float) for word, *rest in (line.split() for line in lines)}
    features = {name: delayed(word_features(story, vectors)) for name, story in real.stories.items()}
    assert held_out_r(real, subject, features) == pytest.approx(expected, abs=0.02)


def test_time_alone_predicts_nothing_of_a_story_that_was_left_out(real):
    """Rows of a held-out story are orthogonal to training: one smooth bump around each TR of each training story."""
    story = real.stories["wheretheressmoke"]
    t = np.arange(story.n_trs)
    bumps = np.exp(-0.5 * ((t[:, None] - t) / 1.8) ** 2)
    runs = real.responses("UTS02").runs
    n_train = 6
    heard = list(runs)[:n_train]
    widths = [runs[name].shape[1] for name in heard]
    X = np.zeros((sum(widths), sum(widths) + story.n_trs))
    at = 0
    for width in widths:
        u = np.arange(width)
        X[at : at + width, at : at + width] = np.exp(-0.5 * ((u[:, None] - u) / 1.8) ** 2)
        at += width
    X_test = np.hstack([np.zeros((story.n_trs, at)), bumps])
    Y = np.concatenate([runs[name][0] for name in heard])
    fitted = Ridge(alpha=1.0).fit(X, Y)
    assert column_correlation(fitted.predict(X), Y).mean() > 0.5  # the feature can learn
    assert np.ptp(fitted.predict(X_test), axis=0).max() < 1e-4  # and has nothing to say about a new story
