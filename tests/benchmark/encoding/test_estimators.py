# SPDX-License-Identifier: Apache-2.0
from typing import Any

import numpy as np
import pytest
from himalaya.kernel_ridge import KernelRidgeCV
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold, PredefinedSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_dataframe_column_names_consistency, parametrize_with_checks

from voxelboard.benchmark.encoding.estimators import BandedRidgeCV, FractionalRidgeCV, StoryRidgeCV, story_folds
from voxelboard.benchmark.encoding.reference import himalaya_backend
from voxelboard.benchmark.errors import InvalidInput, UserError


@pytest.fixture(scope="module", params=[20, 150])
def data(request: pytest.FixtureRequest) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((240, request.param)) + 2
    stories = np.repeat(["c", "a", "b", "d", "e", "f"], 40)
    Y = X @ rng.standard_normal((request.param, 30)) / 3 + 3 * rng.standard_normal((240, 30)) + 5
    return {"X": X[:200], "Y": Y[:200], "groups": stories[:200], "X_test": X[200:], "Y_test": Y[200:]}


ESTIMATORS = {
    "ridge": StoryRidgeCV,
    "banded": lambda: BandedRidgeCV({"low": range(8), "high": range(8, 20)}, gammas=8),
    "fractional": FractionalRidgeCV,
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_fit_predict_score(data: dict[str, Any], name: str) -> None:
    model = clone(ESTIMATORS[name]())
    with pytest.raises(NotFittedError):
        model.predict(data["X"])
    assert model.fit(data["X"], data["Y"], groups=data["groups"]) is model
    predicted = model.predict(data["X_test"])
    assert predicted.shape == (40, 30)
    assert predicted.dtype == np.float64
    assert model.predict(data["X_test"].astype(np.float32)).dtype == np.float32
    expected = r2_score(data["Y_test"], predicted, multioutput="raw_values")
    np.testing.assert_allclose(model.score(data["X_test"], data["Y_test"]), expected, rtol=1e-6)
    again = clone(model).fit(data["X"], data["Y"], groups=data["groups"])
    assert again.coef_.tobytes() == model.coef_.tobytes()
    one = clone(model).fit(data["X"], data["Y"][:, 3], groups=data["groups"])
    np.testing.assert_allclose(one.predict(data["X_test"]), predicted[:, 3], atol=1e-4)
    assert one.score(data["X_test"], data["Y_test"][:, 3]) == pytest.approx(expected[3], abs=1e-4)
    with pytest.raises(InvalidInput, match="that of the predictions"):
        one.score(data["X_test"], data["Y_test"])


CHECKED = [
    StoryRidgeCV(segments=5),
    BandedRidgeCV({"first": slice(0, 1), "rest": slice(1, None)}, gammas=5, segments=5),
    FractionalRidgeCV(segments=5),
]


@parametrize_with_checks(CHECKED)
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    """All of them but that of array API inputs, which skips itself; no failure is expected."""
    check(estimator)


@pytest.mark.parametrize("estimator", CHECKED, ids=lambda estimator: type(estimator).__name__)
def test_names_of_columns_are_kept_and_checked(estimator: Any) -> None:
    """scikit-learn's check, which is not among those that it gives to others."""
    check_dataframe_column_names_consistency(type(estimator).__name__, estimator)


def test_segments_stand_in_for_stories_where_no_groups_can_be_passed(data: dict[str, Any]) -> None:
    X, Y, stories = data["X"], data["Y"], data["groups"]
    model = StoryRidgeCV(segments=5).fit(X, Y)
    assert model.coef_.tobytes() == StoryRidgeCV().fit(X, Y, groups=np.arange(200) // 40).coef_.tobytes()
    given = StoryRidgeCV(segments=7).fit(X, Y, groups=stories)  # groups come first
    assert given.coef_.tobytes() == StoryRidgeCV().fit(X, Y, groups=stories).coef_.tobytes()
    pipeline = make_pipeline(StandardScaler(), StoryRidgeCV(segments=4))
    scores = cross_val_score(pipeline, X, Y, groups=stories, cv=GroupKFold(3), scoring="r2")
    fits = [clone(pipeline).fit(X[train], Y[train]) for train, _ in GroupKFold(3).split(X, Y, stories)]
    for score, fit, (_, test) in zip(scores, fits, GroupKFold(3).split(X, Y, stories), strict=True):
        assert score == pytest.approx(fit.score(X[test], Y[test]).mean())


def test_slices_are_bands(data: dict[str, Any]) -> None:
    X, Y, groups = data["X"], data["Y"], data["groups"]
    slices = BandedRidgeCV({"low": slice(0, 8), "high": slice(8, None)}, gammas=4).fit(X, Y, groups)
    listed = BandedRidgeCV({"low": range(8), "high": range(8, X.shape[1])}, gammas=4).fit(X, Y, groups)
    assert slices.coef_.tobytes() == listed.coef_.tobytes()


def test_ridge_equals_scikit_learn_with_intercept(data: dict[str, Any]) -> None:
    model = StoryRidgeCV().fit(data["X"], data["Y"], groups=data["groups"])
    for v in range(0, 30, 7):
        oracle = Ridge(alpha=model.alphas_[v]).fit(data["X"], data["Y"][:, v])
        np.testing.assert_allclose(model.predict(data["X_test"])[:, v], oracle.predict(data["X_test"]), atol=1e-4)


def test_ridge_chooses_himalayas_alphas(data: dict[str, Any]) -> None:
    X, Y = data["X"] - data["X"].mean(0), data["Y"] - data["Y"].mean(0)
    model = StoryRidgeCV(fit_intercept=False).fit(X, Y, groups=data["groups"])
    with himalaya_backend("numpy"):
        splits = PredefinedSplit(story_folds(data["groups"], 5))
        reference = KernelRidgeCV(alphas=model.alpha_grid_, cv=splits, warn=False).fit(X, Y)
        predicted = reference.predict(data["X_test"])
    np.testing.assert_allclose(model.alphas_, reference.best_alphas_, rtol=1e-6)
    np.testing.assert_allclose(model.predict(data["X_test"]), predicted, atol=1e-4)
    np.testing.assert_allclose(model.cv_scores_, reference.cv_scores_, rtol=1e-6)


def test_banded_weights_leave_columns_of_no_band_alone(data: dict[str, Any]) -> None:
    model = BandedRidgeCV({"low": [0, 1, 2], "high": [5, 6]}, gammas=5).fit(data["X"], data["Y"], data["groups"])
    assert model.coef_.shape == (data["X"].shape[1], 30)
    assert set(np.flatnonzero(np.abs(model.coef_).max(1))) == {0, 1, 2, 5, 6}
    assert model.cv_scores_.shape == (5, 30)
    assert model.gammas_.shape == (30, 2)


def test_whole_stories_are_left_out_in_order_of_appearance() -> None:
    groups = np.repeat(["z", "m", "a", "k"], [3, 2, 1, 2])
    assert story_folds(groups, 3).tolist() == [0, 0, 0, 1, 1, 2, 0, 0]
    assert story_folds(groups, 9).tolist() == [0, 0, 0, 1, 1, 2, 3, 3]


def test_time_alone_does_not_predict_a_story_that_was_left_out() -> None:
    """A canary: features that only say "when" predict drift inside a story, never in a left-out one."""
    rng = np.random.default_rng(3)
    n, stories = 60, np.repeat(np.arange(6), 60)
    centres = np.arange(360)
    X = np.exp(-0.5 * ((centres[:, None] - centres[None, ::3]) / 4) ** 2) * (stories[:, None] == stories[None, ::3])
    drift = np.cumsum(rng.standard_normal((360, 40)), axis=0)
    for s in range(6):
        drift[stories == s] -= drift[stories == s].mean(0)
    model = StoryRidgeCV(fit_intercept=False).fit(X[:300], drift[:300], groups=stories[:300])
    assert np.abs(model.predict(X[300:])).max() == 0
    assert n * 6 == len(X)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"groups": None}, UserError, "groups is missing"),
        ({"groups": np.zeros(200)}, ValueError, "1 stories"),
        ({"groups": np.zeros(3)}, UserError, r"expected \(200,\)"),
        ({"X": np.full((200, 3), np.nan)}, UserError, "X contains NaN"),
        ({"Y": np.full((200, 3), np.nan)}, UserError, "y contains NaN"),
        ({"X": np.zeros(200)}, UserError, "Expected 2D array"),
        ({"Y": np.zeros((199, 2))}, UserError, "shapes"),
        ({"X": csr_array(np.ones((200, 3)))}, UserError, "sparse input"),
        ({"Y": csr_array(np.ones((200, 3)))}, UserError, "sparse input"),
        ({"X": np.ones((200, 3)) * 1j}, UserError, "Complex data"),
        ({"Y": np.ones((200, 2)) * 1j}, ValueError, "Complex data"),
    ],
)
def test_what_cannot_be_fitted_is_refused(data: dict[str, Any], change: Any, error: Any, match: str) -> None:
    arguments = {"X": data["X"], "Y": data["Y"], "groups": data["groups"], **change}
    with pytest.raises(error, match=match):
        StoryRidgeCV().fit(**arguments)


def test_wrong_columns_bands_and_weights_are_refused(data: dict[str, Any]) -> None:
    model = StoryRidgeCV().fit(data["X"], data["Y"], groups=data["groups"])
    with pytest.raises(InvalidInput, match="is expecting"):
        model.predict(data["X"][:, 1:])
    with pytest.raises(UserError, match="sample weights"):
        model.score(data["X"], data["Y"], sample_weight=np.ones(200))
    for bands in ({"a": [0], "b": [0]}, {"a": [999]}, {}):
        with pytest.raises(UserError, match="disjoint"):
            BandedRidgeCV(bands).fit(data["X"], data["Y"], groups=data["groups"])
