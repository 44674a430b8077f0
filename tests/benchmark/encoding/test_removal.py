# SPDX-License-Identifier: Apache-2.0
"""A planted property is gone from a representation, and what is not the property stays."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from voxelboard.benchmark.encoding.designs import primal_problem
from voxelboard.benchmark.encoding.removal import (
    PropertyMap,
    _fitted,
    chance_accuracy,
    probe_accuracy,
    probe_hits,
    remove_property,
)
from voxelboard.benchmark.encoding.ridge import fit_ridge
from voxelboard.benchmark.errors import InvalidNumbers, UserError

N, D = 2000, 30
FOLDS = np.arange(N) * 10 // N


def planted(strength: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States with a class (3 kinds) in them, the classes, and the content that is not the class."""
    rng = np.random.default_rng(0)
    classes = rng.choice(3, N, p=[0.5, 0.3, 0.2])
    content = rng.standard_normal((N, D))
    states = content + strength * np.eye(3)[classes] @ rng.standard_normal((3, D))
    return states, classes, content


def test_the_ridge_is_scikit_learn_s() -> None:
    rng = np.random.default_rng(1)
    x, y, new = (
        rng.standard_normal((50, 3)) * [1, 5, 0.2] + 2,
        rng.standard_normal((50, 2)),
        rng.standard_normal((7, 3)),
    )
    found = _fitted(x, y).predict(new, np.array([0.3, 0.3]))
    scaled = (x - x.mean(0)) / x.std(0)
    expected = Ridge(alpha=0.3 * 50).fit(scaled, y).predict((new - x.mean(0)) / x.std(0))
    np.testing.assert_allclose(found, expected)


def test_penalties_are_those_of_the_least_error_row_by_row() -> None:
    """Errors from sums of squares choose what scikit-learn's errors of left-out rows choose."""
    rng = np.random.default_rng(4)
    classes = rng.choice(3, 300)
    classes[:100] = np.minimum(classes[:100], 1)  # a class that one fold lacks
    labels, folds = np.eye(3)[classes], np.arange(300) // 100
    states = 1e3 + labels @ rng.standard_normal((3, 8)) * np.logspace(-2, 0, 8) + rng.standard_normal((300, 8))
    lambdas = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
    errors = np.zeros((5, 8))
    for fold in range(3):
        x, new = labels[folds != fold], labels[folds == fold]
        keep = x.std(0) > 0
        x, new = (table[:, keep] / x[:, keep].std(0) for table in (x, new))
        for k, value in enumerate(lambdas):
            ridge = Ridge(alpha=value * len(x)).fit(x, states[folds != fold])
            errors[k] += ((states[folds == fold] - ridge.predict(new)) ** 2).sum(0)
    chosen = np.array(lambdas)[errors.argmin(0)]
    assert len(set(chosen)) > 2
    left = PropertyMap(states, labels, folds, lambdas).residuals(states, labels)
    expected = states - _fitted(labels, states).predict(labels, chosen)
    np.testing.assert_allclose(left, expected, rtol=1e-5, atol=1e-6)


def test_a_probe_finds_the_property_before_and_is_at_chance_after() -> None:
    states, classes, _ = planted()
    chance = chance_accuracy(classes)
    assert chance == pytest.approx(0.5, abs=0.03)
    assert probe_accuracy(states, classes, FOLDS) > 0.95
    residuals, share = remove_property(states, np.eye(3)[classes], FOLDS)
    assert probe_accuracy(residuals, classes, FOLDS) == pytest.approx(chance, abs=0.02)
    assert 0.2 < share < 0.6


def test_what_is_returned_are_residuals_that_keep_the_rest() -> None:
    states, classes, content = planted()
    residuals, _ = remove_property(states, np.eye(3)[classes], FOLDS)
    assert residuals.shape == states.shape
    r = [np.corrcoef(residuals[:, k], content[:, k])[0, 1] for k in range(D)]
    assert min(r) > 0.98


def test_voxels_of_the_property_are_lost_and_others_keep_their_r() -> None:
    """Δr of voxels that follow the property is their whole r, that of the others is next to 0."""
    states, classes, content = planted()
    rng = np.random.default_rng(2)
    follows = np.eye(3)[classes] @ rng.standard_normal((3, 20))
    other = content @ rng.standard_normal((D, 20)) / np.sqrt(D)
    brain = np.concatenate([follows, other], axis=1) + rng.standard_normal((N, 40))
    residuals, _ = remove_property(states, np.eye(3)[classes], FOLDS)

    def r(design: np.ndarray) -> np.ndarray:
        train, test = FOLDS < 8, FOLDS >= 8
        x = design - design[train].mean(axis=0)
        fit = fit_ridge(
            primal_problem(x[train], x[test]),
            (brain[train] - brain[train].mean(axis=0)).astype(np.float32),
            FOLDS[train] % 5,
            (1e-3, 1e-2, 1e-1, 1.0),
        )
        return np.array([np.corrcoef(fit.test_predictions[:, v], brain[test, v])[0, 1] for v in range(40)])

    before, after = r(states), r(residuals.astype(np.float64))
    assert before[:20].mean() > 0.4
    assert abs(after[:20].mean()) < 0.08  # 400 test rows that share three classes
    assert abs((before - after)[20:].mean()) < 0.03
    assert after[20:].mean() > 0.6


def test_a_property_that_is_not_there_takes_nothing() -> None:
    states, _, _ = planted(0.0)
    labels = np.random.default_rng(3).standard_normal((N, 2))
    residuals, share = remove_property(states, labels, FOLDS)
    assert abs(share) < 0.01
    assert np.corrcoef(residuals.ravel(), states.ravel())[0, 1] > 0.99
    constant, share = remove_property(states, np.ones(N), FOLDS)
    assert share == pytest.approx(0.0, abs=1e-6)
    assert constant.std() > 0.9


def test_arrays_that_do_not_fit() -> None:
    states, classes, _ = planted()
    with pytest.raises(UserError, match="three folds"):
        remove_property(states, classes, np.arange(N) % 2)
    with pytest.raises(UserError, match="labels"):
        remove_property(states, classes[:-1], FOLDS)
    with pytest.raises(InvalidNumbers, match="NaN"):
        remove_property(np.full_like(states, np.nan), classes, FOLDS)


def test_new_rows_lose_the_property_by_a_map_that_never_saw_them() -> None:
    states, classes, _ = planted()
    old, new = FOLDS < 7, FOLDS >= 7
    labels = np.eye(3)[classes]
    left = PropertyMap(states[old], labels[old], FOLDS[old]).residuals(states[new], labels[new])
    residuals, _ = remove_property(states[old], labels[old], FOLDS[old])
    chance = chance_accuracy(classes[new])
    assert probe_hits(states[old], classes[old], states[new], classes[new]).mean() > 0.95
    assert probe_hits(residuals, classes[old], left, classes[new]).mean() == pytest.approx(chance, abs=0.03)
    # a row alone is what it is among others
    np.testing.assert_allclose(
        PropertyMap(states[old], labels[old], FOLDS[old]).residuals(states[new][:1], labels[new][:1]),
        left[:1],
        rtol=1e-5,
    )
