# SPDX-License-Identifier: Apache-2.0
"""The Alice reader on a small twin in the same format, and on the real recordings against published figures."""

import numpy as np
import pytest
from scipy.special import gammaln

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.readers.alice2016 import N_TRS, REGIONS, Alice2016
from voxelboard.benchmark.readers.base import leave_one_segment_out
from voxelboard.benchmark.readers.cards import load_card

CARD = load_card("alice2016")
TEXTGRID = "stimulus/DownTheRabbitHoleFinal_exp120_pad_1.TextGrid"


def textgrid(words: list[tuple[float, float, str]]) -> str:
    rows = "".join(
        f'        intervals [{k + 1}]:\n            xmin = {a}\n            xmax = {b}\n            text = "{w}"\n'
        for k, (a, b, w) in enumerate(words)
    )
    return (
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 12.07\nxmax = 743.6\ntiers? <exists>\nsize = 1\n'
        'item []:\n    item [1]:\n        class = "IntervalTier"\n        name = "word"\n        xmin = 12.07\n'
        f"        xmax = 743.6\n        intervals: size = {len(words)}\n{rows}"
    )


WORDS = [(12.07, 20.5, "sp"), (20.5, 21.0, "Alice"), (21.0, 22.25, "was "), (22.25, 23.0, ""), (700.0, 701.0, "cake")]


@pytest.fixture
def twin(tmp_path):
    for folder in ("stimulus", "responses/6mm", "responses/10mm"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / TEXTGRID).write_text(textgrid(WORDS))
    rng = np.random.default_rng(0)
    for radius in ("6mm", "10mm"):
        table = 100 + rng.standard_normal((N_TRS, 6))
        np.savetxt(tmp_path / f"responses/{radius}/s18-timecourses.txt", table, fmt="   %.7e")
    np.savetxt(tmp_path / "responses/s18-sndpwr.txt", np.arange(N_TRS, dtype=float))
    return tmp_path


def write_responses(twin, table):
    np.savetxt(twin / "responses/6mm/s18-timecourses.txt", table)


def test_the_clock_of_the_words_starts_with_the_first_kept_volume(twin):
    story = Alice2016(CARD, twin).stories["alice-chapter-1"]
    assert story.words == ("Alice", "was", "cake")
    assert story.onsets.tolist() == [0.5, 1.0, 680.0]
    assert story.offsets.tolist() == [1.0, 2.25, 681.0]
    assert story.word_trs.tolist() == [0, 0, 340]
    # two TRs earlier, the last value held
    assert story.acoustics[:, 0].tolist() == [*range(2, N_TRS), N_TRS - 1, N_TRS - 1]


@pytest.mark.parametrize("radius", ["6mm", "10mm"])
def test_the_card_chooses_the_radius(twin, radius):
    data = Alice2016(CARD.model_copy(update={"options": {"radius": radius}}), twin)
    responses = data.responses("s18")
    stored = np.loadtxt(twin / f"responses/{radius}/s18-timecourses.txt")
    np.testing.assert_array_equal(responses.runs["alice-chapter-1"][0], stored.astype(np.float32))
    assert tuple(responses.rois) == REGIONS


def test_segments_cover_the_story_once_and_are_left_out_in_turn():
    split = leave_one_segment_out("alice", N_TRS, 6)
    assert len(split.folds) == 6
    covered = np.concatenate([np.arange(s.start, s.stop) for s in split.test_segments])
    np.testing.assert_array_equal(covered, np.arange(N_TRS))
    for train, (test,) in split.folds:
        assert test not in train
        assert len(train) == 5
        assert 60 <= test.stop - test.start <= 61


def test_unknown_subjects_and_radii(twin):
    with pytest.raises(UserError, match="unknown subject of alice2016 's33'"):
        Alice2016(CARD, twin).responses("s33")
    with pytest.raises(UserError, match="unknown radius '8mm'"):
        Alice2016(CARD.model_copy(update={"options": {"radius": "8mm"}}), twin)


def test_a_missing_subject_file_is_named(twin):
    with pytest.raises(MissingPrerequisite, match=r"6mm/s22-timecourses\.txt"):
        Alice2016(CARD, twin).responses("s22")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.zeros((N_TRS, 6)), "6 constant voxels"),
        (np.ones((N_TRS, 5)), r"shape \(362, 5\), expected \(362, 6\)"),
        (np.ones((372, 6)), r"shape \(372, 6\), expected \(362, 6\)"),
        (np.full((N_TRS, 6), np.nan), "6 voxels with NaN"),
    ],
)
def test_responses_that_cannot_be_scored_are_refused(twin, table, message):
    write_responses(twin, table)
    with pytest.raises(DataError, match=message):
        Alice2016(CARD, twin).responses("s18")


@pytest.mark.parametrize("damage", ["1.0 2.0\n3.0\n", "1.0 NAME\n", "\xff\xfe", ""])
def test_a_file_that_is_no_table_is_refused(twin, damage):
    (twin / "responses/6mm/s18-timecourses.txt").write_bytes(damage.encode("latin-1"))
    with pytest.raises(DataError, match=r"s18-timecourses\.txt"):
        Alice2016(CARD, twin).responses("s18")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([(12.0, 14.0, "early"), (21.0, 22.0, "b")], "'early' starts before the first response row"),
        ([(21.0, 22.0, "a"), (20.5, 21.0, "b")], "'b' starts before the word before it"),
        ([(21.0, 20.5, "a")], "'a' ends before it starts"),
        ([(21.0, 22.0, "a"), (744.0, 745.0, "late")], "'late' starts beyond the scan of 362 x 2.0 s"),
        ([(21.0, 22.0, "sp")], "has no words"),
    ],
)
def test_words_that_do_not_fit_the_scan_are_refused(twin, words, message):
    (twin / TEXTGRID).write_text(textgrid(words))
    with pytest.raises(DataError, match=message):
        Alice2016(CARD, twin)


def test_words_without_a_time_or_a_tier_are_refused(twin):
    path = twin / TEXTGRID
    path.write_text(textgrid(WORDS).replace("xmin = 20.5", "xmin = --undefined--"))
    with pytest.raises(DataError, match="is not a whole TextGrid"):
        Alice2016(CARD, twin)
    path.write_text(textgrid(WORDS).replace('"word"', '"phone"'))
    with pytest.raises(DataError, match="no tier called 'word'"):
        Alice2016(CARD, twin)
    path.unlink()
    with pytest.raises(MissingPrerequisite):
        Alice2016(CARD, twin)


# The real recordings


@pytest.fixture(scope="module")
def folder(shared_data):
    return shared_data / "alice2016"


@pytest.fixture(scope="module")
def real(folder):
    return Alice2016(CARD, folder)


def high_passed(series):
    """The 120-s DCT high-pass of the protocol, then z-scores. (n_trs, n_columns)"""
    n = len(series)
    orders = np.arange(int(2 * n * 2.0 / 120.0) + 1)
    basis, _ = np.linalg.qr(np.cos(np.pi * (np.arange(n)[:, None] + 0.5) * orders / n))
    series = series - basis @ (basis.T @ series)
    return (series - series.mean(axis=0)) / series.std(axis=0)


@pytest.fixture(scope="module")
def brains(real):
    """(n_subjects, n_trs, 6)"""
    return np.stack([high_passed(real.responses(s).runs["alice-chapter-1"][0].astype(float)) for s in real.subjects])


def test_the_textgrid_has_the_published_words(real):
    story = real.stories["alice-chapter-1"]
    assert story.n_words == 2127
    assert (story.words[0], story.words[-1]) == ("Alice", "cake")
    assert story.onsets[0] + 20 == pytest.approx(20.06, abs=0.005)
    assert story.offsets[-1] + 20 == pytest.approx(743.3, abs=0.05)
    assert len(real.subjects) == 27


def test_the_published_word_rate_is_that_of_our_clock(real, folder):
    """Word offsets through a double-gamma HRF fit the published predictor best when nothing is shifted."""
    story = real.stories["alice-chapter-1"]
    step = 0.1
    t = np.arange(0, 32, step)
    density = [np.exp((a - 1) * np.log(np.maximum(t, 1e-9)) - t - gammaln(a)) for a in (6.0, 16.0)]
    response = density[0] - density[1] / 6
    counts = np.bincount((story.offsets / step).astype(int), minlength=round(N_TRS * 2 / step))
    rate = np.convolve(counts, response)
    published = np.loadtxt(folder / "responses/s18-rate.txt")
    lags = np.arange(-3, 3.5, 0.5)  # seconds
    rows = [np.round((np.arange(5, N_TRS - 5) * 2 + lag) / step).astype(int) for lag in lags]
    r = [np.corrcoef(published[5:-5], rate[row])[0, 1] for row in rows]
    assert lags[int(np.argmax(r))] == 0
    assert max(r) > 0.98


def test_word_rate_correlates_with_lptl_as_published(real, brains, folder):
    rate = high_passed(np.loadtxt(folder / "responses/s18-rate.txt")[:, None])
    r = (brains * rate).mean(axis=1).mean(axis=0)
    assert REGIONS[int(np.argmax(r))] == "LPTL"
    assert r[REGIONS.index("LPTL")] == pytest.approx(0.20, abs=0.05)


def test_listeners_agree_as_published(brains):
    """Leave-one-out inter-subject correlation, mean over subjects: .19 to .42 by region."""
    total = brains.sum(axis=0)
    others = [(total - brain) / (len(brains) - 1) for brain in brains]
    isc = np.array(
        [[np.corrcoef(a[:, k], b[:, k])[0, 1] for k in range(6)] for a, b in zip(brains, others, strict=True)]
    ).mean(axis=0)
    assert isc.min() == pytest.approx(0.19, abs=0.03)
    assert isc.max() == pytest.approx(0.42, abs=0.03)


def test_sound_power_is_published_already_convolved(folder):
    """Speech starts at row 0, the predictor takes 8 s to rise: it holds the delay of the HRF."""
    power = np.loadtxt(folder / "responses/s18-sndpwr.txt")
    assert abs(power[0]) < 0.01 * power.max()
    assert power[4] > 0.5 * power.max()
    assert (np.diff(power[:5]) > 0).all()
