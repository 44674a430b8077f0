# SPDX-License-Identifier: Apache-2.0
"""The simulated data set has the signal, the noise and the text that its spec asks for."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV

from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.readers.base import check_responses
from voxelboard.benchmark.readers.simulated import PRESETS, SimulatedNarrative, SimulationSpec, open_simulated
from voxelboard.benchmark.readers.simulated_brain import ROI_SHARES, SPACES, hrf, scan_noise

SPEC = SimulationSpec(seed=3, n_subjects=2, n_train=4, train_trs=150, test_trs=250, n_repeats=8, n_voxels=30, snr=0.3)


@pytest.fixture(scope="module")
def data():
    return SimulatedNarrative(SPEC)


@pytest.fixture(scope="module")
def tiny():
    return open_simulated("tiny")


def explainable_variance(runs):
    """(n_voxels,) unbiased share of signal variance in one presentation, from repeats (n_repeats, n_trs, n_voxels)."""
    n_repeats = len(runs)
    total = runs.var(axis=1, ddof=1).mean(axis=0)
    signal = (n_repeats * runs.mean(axis=0).var(axis=0, ddof=1) - total) / (n_repeats - 1)
    return signal / total


# Signal and noise


def test_voxels_have_the_explainable_variance_that_was_planted(data):
    for subject in data.subjects:
        truth = data.truth(subject)
        measured = explainable_variance(data.responses(subject).runs["test01"].astype(float))
        # of the signal that this story happens to have; voxels share spikes and physiology, hence pool by region
        planted = truth.signal["test01"].astype(float).var(axis=0)
        for roi in data.scored_rois:
            at = data.rois == roi
            assert measured[at].mean() == pytest.approx(planted[at].mean(), abs=0.03)
        assert np.corrcoef(measured, planted)[0, 1] > 0.9


def test_signal_variance_over_all_stories_is_the_requested_snr(data):
    truth = data.truth("sim01")
    signal = np.concatenate([truth.signal[name] for name in data.stories]).astype(float)
    np.testing.assert_allclose(signal.var(axis=0), truth.explainable_variance, rtol=1e-4)
    live = truth.snr[data.rois != "NULL"]
    assert live.mean() == pytest.approx(SPEC.snr, rel=0.2)  # Gamma(2, .5): sd .71 of the mean, 150 voxels
    assert (live > 0).all()


def test_the_null_region_has_no_signal(data):
    at = data.rois == "NULL"
    for subject in data.subjects:
        assert not data.truth(subject).signal["test01"][:, at].any()
        measured = explainable_variance(data.responses(subject).runs["test01"][:, :, at].astype(float))
        assert abs(measured.mean()) < 0.02
    assert "NULL" not in data.scored_rois
    assert set(data.scored_rois) | {"NULL"} == set(data.rois)


def test_responses_have_unit_variance(data):
    runs = data.responses("sim01").runs
    variance = np.concatenate([run[0] for run in runs.values()]).astype(float).var(axis=0)
    assert variance.mean() == pytest.approx(1, abs=0.02)


def test_noise_is_autocorrelated_as_asked():
    rng = np.random.default_rng(0)
    plain = scan_noise(20_000, 5, 2.0, 0.45, (0.0, 0.0, 0.0), rng)
    assert np.corrcoef(plain[:-1, 0], plain[1:, 0])[0, 1] == pytest.approx(0.45, abs=0.03)
    assert np.corrcoef(plain[:-2, 0], plain[2:, 0])[0, 1] == pytest.approx(0.45**2, abs=0.03)
    np.testing.assert_allclose(plain.std(axis=0), 1)


def test_drift_is_slower_than_200_seconds():
    full = scan_noise(500, 40, 2.0, 0.0, (50.0, 0.0, 0.0), np.random.default_rng(1))
    power = (np.abs(np.fft.rfft(full - full.mean(axis=0), axis=0)) ** 2).mean(axis=1)
    frequency = np.fft.rfftfreq(500, 2.0)
    assert power[frequency <= 1 / 180].sum() > 0.9 * power.sum()


def test_repeats_share_the_signal_and_not_the_noise(data):
    runs = data.responses("sim02").runs["test01"].astype(float)
    noise = runs - data.truth("sim02").signal["test01"]
    pairs = [np.corrcoef(noise[a].ravel(), noise[b].ravel())[0, 1] for a in range(4) for b in range(a)]
    assert np.abs(np.mean(pairs)) < 0.02
    assert np.corrcoef(runs[0].ravel(), runs[1].ravel())[0, 1] > 0.1


def test_subjects_share_the_asked_part_of_their_tuning():
    def agreement(group_share):
        spec = replace(SPEC, group_share=group_share, hrf_jitter_s=0.0)
        one, two = (SimulatedNarrative(spec).signal(subject)["test01"] for subject in ("sim01", "sim02"))
        live = np.flatnonzero(one.any(axis=0))
        return np.mean([np.corrcoef(one[:, v], two[:, v])[0, 1] for v in live])

    assert agreement(1.0) == pytest.approx(1, abs=1e-6)
    # correlated latents make signals agree a little more than weights
    assert agreement(0.6) == pytest.approx(0.6, abs=0.1)
    assert agreement(0.0) == pytest.approx(0, abs=0.15)


def test_the_hrf_peaks_at_five_seconds_and_moves_with_its_delay():
    t = np.arange(0, 30, 0.1)
    assert t[np.argmax(hrf(0.1, 0.0))] == pytest.approx(5, abs=0.1)
    assert t[np.argmax(hrf(0.1, 1.5))] == pytest.approx(6.5, abs=0.1)
    assert t[np.argmin(hrf(0.1, 0.0))] == pytest.approx(15, abs=1)
    assert (hrf(0.5, 0.5) ** 2).sum() == pytest.approx(1)


# Spaces


def test_spaces_are_orthogonal_on_the_grid(data):
    grids = {space: np.concatenate([data.grid(name)[space] for name in data.stories]) for space in SPACES}
    for k, space in enumerate(SPACES):
        for other in SPACES[:k]:
            a, b = grids[space], grids[other]
            cosine = a.T @ b / np.outer(np.linalg.norm(a, axis=0) + 1e-9, np.linalg.norm(b, axis=0) + 1e-9)
            assert np.abs(cosine).max() < 1e-6


def test_ridge_on_the_latents_explains_the_signal(data):
    """With no haemodynamic jitter the drives of the spaces span the signal; jitter costs a part of it."""
    still = SimulatedNarrative(replace(SPEC, hrf_jitter_s=0.0))
    for simulated, least in ((still, 0.999), (data, 0.75)):
        drives = {name: np.hstack(list(simulated.drives(name).values())) for name in simulated.stories}
        signal = simulated.signal("sim01")
        live = simulated.rois != "NULL"
        train = [name for name in simulated.stories if name.startswith("train")]
        fit = RidgeCV(alphas=[1e-4, 1e-2, 1.0]).fit(
            np.concatenate([drives[name] for name in train]), np.concatenate([signal[name][:, live] for name in train])
        )
        assert fit.score(drives["test01"], signal["test01"][:, live]) > least


def test_regions_follow_their_planted_spaces():
    """Without lags in the model, a region's signal is explained by its spaces in the nominal shares."""
    data = SimulatedNarrative(replace(SPEC, n_train=8, hrf_jitter_s=0.0))
    drives = {space: np.concatenate([data.drives(name)[space] for name in data.stories]) for space in SPACES}
    signal = np.concatenate([data.signal("sim01")[name] for name in data.stories]).astype(float)
    X = np.hstack(list(drives.values()))
    weights = np.linalg.lstsq(X, signal, rcond=None)[0]
    cuts = np.cumsum([drives[space].shape[1] for space in SPACES])[:-1]
    parts = [drive @ w for drive, w in zip(drives.values(), np.split(weights, cuts), strict=True)]
    variances = np.stack([part.var(axis=0) for part in parts])
    for roi in data.scored_rois:
        shares = variances[:, data.rois == roi].mean(axis=1)
        np.testing.assert_allclose(shares / shares.sum(), ROI_SHARES[roi], atol=0.05)


# Stories


def test_stories_are_ascii_english_in_sentences(data):
    story = data.stories["train01"]
    assert story.text.isascii()
    assert all(story.text[a:b] == word for word, (a, b) in zip(story.words, story.spans, strict=True))
    assert all(word.isalpha() for word in story.words)
    sentences = [sentence for sentence in story.text.split(".") if sentence.strip()]
    lengths = [len(sentence.split()) for sentence in sentences]
    assert story.text.endswith(".")
    assert 8 < np.mean(lengths) < 14
    assert all(sentence.strip()[0].isupper() for sentence in sentences)


def test_sentence_positions_are_those_of_the_text(data):
    story = data.stories["train02"]
    position = story.annotations["sentence_position"][:, 0]
    starts = [i for i, (a, _) in enumerate(story.spans) if i == 0 or story.text[a - 2] == "."]
    assert np.flatnonzero(position == 0).tolist() == starts


def test_speech_has_a_natural_rate_and_fits_the_scan(data):
    for story in data.stories.values():
        seconds = story.n_trs * story.tr
        assert 1.5 < story.n_words / seconds < 2.5
        assert story.onsets[0] == pytest.approx(1)
        assert seconds - 20 < story.offsets[-1] <= seconds
        assert (story.onsets[1:] >= story.offsets[:-1] - 1e-9).all()


def test_acoustics_are_louder_when_there_are_words(data):
    story = data.stories["test01"]
    assert story.acoustics.shape == (250, 6)
    spoken = np.bincount(story.word_trs, minlength=250) > 0
    assert np.abs(story.acoustics[~spoken]).max() == 0
    rate = np.bincount(story.word_trs, story.offsets - story.onsets, minlength=250)
    assert np.corrcoef(story.acoustics.mean(axis=1), rate)[0, 1] > 0.7


def test_annotations_are_the_standardised_latents(data):
    for space, width in (("lex", 17), ("syn", 10), ("sem", 32)):
        table = np.concatenate([story.annotations[space] for story in data.stories.values()])
        assert table.shape[1] == width
        np.testing.assert_allclose(table.mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(table.std(axis=0), 1, atol=1e-6)
    story = data.stories["train01"]
    for k, name in ((0, "depth"), (2, "surprisal"), (3, "sentence_position")):
        r = np.corrcoef(story.annotations["syn"][:, k], story.annotations[name][:, 0])[0, 1]
        assert r == pytest.approx(1)


def test_log_frequency_predicts_how_often_words_come():
    data = SimulatedNarrative(replace(SPEC, n_train=12))
    words = [word.lower() for story in data.stories.values() for word in story.words]
    log_p = np.concatenate([story.annotations["log_frequency"][:, 0] for story in data.stories.values()])
    expected = dict(zip(words, np.exp(log_p), strict=True))
    for word in ("the", "that", "her", "man"):
        assert words.count(word) / len(words) == pytest.approx(expected[word], rel=0.25)


def test_static_vectors_are_the_planted_lexicon(data):
    story = data.stories["train03"]
    table = data.static_vectors
    found = np.stack([table.vectors[table.index[word.lower()]] for word in story.words])
    np.testing.assert_allclose(found, story.annotations["lex"], atol=1e-5)


# Determinism

HASH = """
import hashlib
from voxelboard.benchmark.readers.simulated import open_simulated
data = open_simulated("tiny", {seed})
digest = hashlib.sha256()
for story in data.stories.values():
    digest.update(story.sha256.encode())
for subject in reversed(data.subjects):
    digest.update(data.responses(subject).sha256().encode())
print(digest.hexdigest())
"""


def hash_in_a_new_process(seed, hash_seed):
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", HASH.format(seed=seed)], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_same_seed_same_bytes_and_other_seed_other_bytes():
    first = hash_in_a_new_process(0, "1")
    assert first == hash_in_a_new_process(0, "271828")
    assert first != hash_in_a_new_process(1, "1")


def test_a_subject_does_not_depend_on_who_was_asked_for_before(tiny):
    alone = SimulatedNarrative(PRESETS["tiny"]).responses("sim03")
    tiny.responses("sim01")
    assert tiny.responses("sim03").sha256() == alone.sha256()
    assert tiny.responses("sim03").sha256() != tiny.responses("sim02").sha256()


def test_no_two_random_streams_are_the_same(data):
    """numpy pads seeds with zeros: noise of subject 0 and story 0 must not repeat what another stream drew."""
    noise = [
        data.responses(subject).runs[story][0].astype(float) - data.signal(subject)[story]
        for subject in data.subjects
        for story in ("train01", "train02", "train03")
    ]
    for k, one in enumerate(noise):
        for two in noise[:k]:
            assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.05


# Use


def test_every_preset_satisfies_its_spec(tiny):
    for name, spec in PRESETS.items():
        if name == "paper":
            continue  # 25 long stories: nothing that the others do not show
        data = open_simulated(name)
        assert len(data.subjects) == spec.n_subjects
        assert len(data.stories) == spec.n_train + spec.n_test
        responses = data.responses(data.subjects[-1])
        assert responses.runs["test01"].shape == (spec.n_repeats, spec.test_trs, 6 * spec.n_voxels)
        assert responses.runs["train01"].shape == (1, spec.train_trs, 6 * spec.n_voxels)
        check_responses(responses, data.stories, min_trs=20)
    assert open_simulated("tiny") is tiny


def test_runs_with_fewer_trs_than_delays_are_refused(tiny):
    with pytest.raises(DataError, match="120 TRs, fewer than the 121"):
        check_responses(tiny.responses("sim01"), tiny.stories, min_trs=121)


def test_unknown_subjects_presets_and_stories(tiny):
    with pytest.raises(UserError, match="Did you mean 'sim03'"):
        tiny.responses("sim3")
    with pytest.raises(UserError, match="unknown story"):
        tiny.drives("train99")
    with pytest.raises(UserError, match="Did you mean 'paper'"):
        open_simulated("papper")


@pytest.mark.parametrize(
    "changes",
    [{"n_subjects": 0}, {"n_repeats": 1}, {"train_trs": 20}, {"snr": -1.0}, {"group_share": 1.5}, {"seed": -1}],
)
def test_a_spec_that_cannot_be_simulated_is_refused(changes):
    with pytest.raises(UserError):
        replace(SPEC, **changes)
