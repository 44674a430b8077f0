# SPDX-License-Identifier: Apache-2.0
"""Features of annotations, and projections and delays, against hand-made answers."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.features.annotation_features import annotation_features, film_confounds, text_columns
from voxelboard.benchmark.features.reduction import Reduction, average_delays, delays_in_trs, fit_projector
from voxelboard.benchmark.features.store import FeatureStore
from voxelboard.benchmark.models.baselines import RandomWordVectors
from voxelboard.benchmark.models.texts import read_texts
from voxelboard.benchmark.stimuli.annotations import Annotation, make_run

TEXTS = (("a dog", "a dog", "", "a cat"), ("the dog", "", "", "a bird"), ("", "", "", "two cats"))


def test_mean_over_those_who_wrote_and_zeros_where_nobody_did(tmp_path: Path) -> None:
    model, store = RandomWordVectors(6), FeatureStore(tmp_path)
    run = make_run("r", "t", n_trs=4, annotations={"object": Annotation(TEXTS)})
    found = annotation_features(model, {"r": run}, ["object"], store)["object"]["r"]
    read = {text: read_texts(model, [text])[:, 0] for row in TEXTS for text in row if text}
    assert found.shape == (1, 4, 6)
    np.testing.assert_allclose(found[:, 0], (read["a dog"] + read["the dog"]) / 2, atol=1e-6)
    np.testing.assert_allclose(found[:, 1], read["a dog"], atol=1e-6)
    assert (found[:, 2] == 0).all()
    np.testing.assert_allclose(found[:, 3], (read["a cat"] + read["a bird"] + read["two cats"]) / 3, atol=1e-6)
    half = annotation_features(model, {"r": run}, ["object"], store, annotators="B")["object"]["r"]
    np.testing.assert_allclose(half[:, 3], read["two cats"], atol=1e-6)
    window = annotation_features(model, {"r": run}, ["object"], store, window_s=3)["object"]["r"]
    np.testing.assert_allclose(
        window[:, 3],
        np.mean([read_texts(model, [t])[:, 0] for t in ("a dog, a cat", "a bird", "two cats")], axis=0),
        atol=1e-6,
    )


def test_other_texts_are_another_key(tmp_path: Path) -> None:
    model, store = RandomWordVectors(3), FeatureStore(tmp_path)
    runs = [make_run("r", "t", n_trs=2, annotations={"story": Annotation((("x", last),))}) for last in ("y", "z")]
    first, second = (annotation_features(model, {"r": run}, ["story"], store)["story"]["r"] for run in runs)
    assert not np.array_equal(first, second)


def test_slower_clock_takes_the_second_in_which_a_row_starts(tmp_path: Path) -> None:
    run = make_run("r", "t", n_trs=2, tr=2.0, annotations={"story": Annotation((("a", "b", "c", "d"),))})
    model = RandomWordVectors(3)
    found = annotation_features(model, {"r": run}, ["story"], FeatureStore(tmp_path))["story"]["r"]
    np.testing.assert_allclose(found, read_texts(model, ["a", "c"]), atol=1e-6)


def test_confounds_say_how_much_was_written_and_not_what() -> None:
    columns = text_columns(Annotation(TEXTS))
    np.testing.assert_allclose(columns[:, 0], [2 / 3, 1 / 3, 0, 1])
    np.testing.assert_allclose(columns[0, 1:3], [np.log(3), (2 + 3) / 2])
    assert columns[2, :3].tolist() == [0, 0, 0]
    np.testing.assert_allclose(columns[1, 3], 1 / 3)  # one annotator stopped
    run = make_run("r", "t", n_trs=4, annotations={"object": Annotation(TEXTS)}, acoustics=np.ones((4, 2)))
    assert film_confounds(run, ["object"]).shape == (4, 2 + 4 + 1)


def test_averaged_delays() -> None:
    impulse = np.zeros((12, 1), dtype=np.float32)
    impulse[1] = 3.0
    np.testing.assert_allclose(average_delays(impulse, (8, 9, 10))[:, 0], [0] * 9 + [1, 1, 1])
    with pytest.raises(UserError, match="none negative"):
        average_delays(impulse, (-1,))
    assert delays_in_trs((8, 10), 2.0) == (4, 5)
    with pytest.raises(UserError, match="whole TRs"):
        delays_in_trs((8, 9), 2.0)


def test_pca_is_fitted_on_training_rows_alone_and_commutes_with_delays() -> None:
    rng = np.random.default_rng(0)
    train, test = rng.standard_normal((80, 30)) @ np.diag(np.arange(30)), rng.standard_normal((20, 30))
    projector = fit_projector(train, Reduction("pca", 5))
    np.testing.assert_array_equal(projector(test + 7)[:, 0] - projector(test)[:, 0] != 0, True)
    again = fit_projector(train, Reduction("pca", 5))
    np.testing.assert_array_equal(projector(test), again(test))  # the test rows had no part in it
    expected = PCA(5, random_state=42).fit(train).transform(train)
    np.testing.assert_allclose(projector(train), expected, atol=1e-10)
    late = average_delays(train, (2, 3))[3:]
    np.testing.assert_allclose(average_delays(projector(train), (2, 3))[3:], projector(late), atol=1e-9)
    assert fit_projector(train, Reduction("pca", 30)).axes is None
    rank = rng.standard_normal((80, 4)) @ rng.standard_normal((4, 30))
    kept = fit_projector(rank, Reduction("pca", 4))
    assert kept.axes is not None
    np.testing.assert_allclose(kept(rank) @ kept.axes.T + kept.centre, rank, atol=1e-9)


def test_sparse_random_projection_keeps_distances() -> None:
    rng = np.random.default_rng(1)
    train = rng.standard_normal((60, 20_000)).astype(np.float32)
    projector = fit_projector(train, Reduction("srp", eps=0.3))
    projected = projector(train)
    assert projected.shape[1] < 1000
    pairs = np.triu_indices(20, 1)
    before, after = (((x[pairs[0]] - x[pairs[1]]) ** 2).sum(axis=1) for x in (train, projected))
    assert np.abs(after / before - 1).max() < 0.3
    with pytest.raises(UserError, match="eps"):
        Reduction("srp", eps=2)
