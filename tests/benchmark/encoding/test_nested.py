# SPDX-License-Identifier: Apache-2.0
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from voxelboard.benchmark.encoding.designs import Problem
from voxelboard.benchmark.encoding.nested import nested_ridge
from voxelboard.benchmark.encoding.ridge import fit_ridge
from voxelboard.benchmark.errors import InvalidNumbers, UserError

ALPHAS = np.logspace(-3, 4, 8)


@pytest.mark.parametrize("selection", ["squared_error", "correlation"])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("case", [("world", "dual"), ("narrow", "primal"), ("narrow", "dual")])
def test_equals_a_fit_per_outer_fold(
    request: pytest.FixtureRequest, case: tuple[str, str], grouped: bool, selection: Any
) -> None:
    world = request.getfixturevalue(case[0])
    X, Y, outer = world.X, world.responses, world.folds
    inner = np.array([0, 1, 0, 1, 1])[outer] if grouped else outer
    fit = nested_ridge(
        getattr(world, case[1]), Y, outer, ALPHAS.tolist(), inner_groups=inner if grouped else None, selection=selection
    )
    for o in range(5):
        rows = outer != o
        train, test = X[rows], X[~rows]
        whole = Problem("primal", *(_tensor(x) for x in (train, test, (test**2).sum(1))), X.shape[1])
        relative = (fit.alpha_grid / whole.mean_row_power).tolist()
        expected = fit_ridge(whole, Y[rows], inner[rows], relative, selection=selection)
        np.testing.assert_array_equal(fit.alpha_index[o], expected.alpha_index)
        np.testing.assert_allclose(fit.predictions[~rows], expected.test_predictions, atol=1e-4)
        for found, wanted in zip(fit.inner[o], expected.inner, strict=True):
            # a fold-held-out alpha may differ where two alphas tie in float32
            assert (np.abs(found - wanted) < 1e-5 * np.abs(wanted).max()).mean() > 0.998


def _tensor(x: Any) -> Any:
    import torch

    return torch.as_tensor(x)


def test_one_outer_fold_against_scikit_learn(world: Any) -> None:
    fit = nested_ridge(world.dual, world.responses, world.folds, [0.5])
    rows = world.folds == 2
    oracle = Ridge(alpha=fit.alpha_grid[0], fit_intercept=False).fit(
        world.X[~rows], world.responses[~rows].astype(float)
    )
    np.testing.assert_allclose(fit.predictions[rows], oracle.predict(world.X[rows]), atol=1e-5)


def test_responses_of_an_outer_fold_choose_nothing_for_it(world: Any) -> None:
    poisoned = world.responses.copy()
    poisoned[world.folds == 3] *= -7
    a, b = (nested_ridge(world.dual, Y, world.folds, ALPHAS.tolist()) for Y in (world.responses, poisoned))
    np.testing.assert_array_equal(a.alpha_index[3], b.alpha_index[3])
    assert a.predictions[world.folds == 3].tobytes() == b.predictions[world.folds == 3].tobytes()
    assert (a.alpha_index[0] != b.alpha_index[0]).any()


def test_rows_in_any_order(world: Any) -> None:
    import torch

    shuffle = np.random.default_rng(0).permutation(world.dual.n_train)
    index = torch.as_tensor(shuffle)
    mixed = Problem("dual", world.dual.train[index][:, index], world.dual.test[:, index], world.dual.test_norms, 400)
    a = nested_ridge(world.dual, world.responses, world.folds, ALPHAS.tolist())
    b = nested_ridge(mixed, world.responses[shuffle], world.folds[shuffle], ALPHAS.tolist())
    np.testing.assert_array_equal(a.alpha_index, b.alpha_index)
    np.testing.assert_allclose(a.predictions[shuffle], b.predictions, atol=1e-4)


def test_too_few_folds_and_split_groups_are_refused(world: Any) -> None:
    with pytest.raises(UserError, match="fewer than 2 inner folds"):
        nested_ridge(world.dual, world.responses, np.minimum(world.folds, 1), [1.0])
    with pytest.raises(UserError, match="two inner groups"):
        nested_ridge(world.dual, world.responses, world.folds, [1.0], inner_groups=np.arange(len(world.folds)) % 2)
    with pytest.raises(UserError, match="inner groups have shape"):
        nested_ridge(world.dual, world.responses, world.folds, [1.0], inner_groups=world.folds[1:])


@pytest.mark.parametrize("form", ["dual", "primal"])
def test_same_bytes_for_any_block_size_and_order_of_subjects(world_factory: Any, form: str) -> None:
    made = world_factory(100 if form == "dual" else 12, 1100)
    order = np.r_[700:1100, :700]
    plain, moved, blocks = (
        nested_ridge(getattr(made, form), Y, made.folds, ALPHAS.tolist(), target_block=block)
        for Y, block in ((made.responses, None), (made.responses[:, order], None), (made.responses, 512))
    )
    assert plain.predictions.tobytes() == blocks.predictions.tobytes()
    assert plain.predictions[:, order].tobytes() == moved.predictions.tobytes()
    np.testing.assert_array_equal(plain.alpha_index[:, order], moved.alpha_index)


@pytest.mark.parametrize("form", ["dual", "primal"])
@pytest.mark.parametrize(
    ("alphas", "poisoned", "error", "match"),
    [
        ([0.0], False, UserError, "positive"),
        ([-1.0], False, UserError, "positive"),
        ([1.0], True, InvalidNumbers, "target 17"),
    ],
)
def test_bad_alphas_and_nan_are_refused(
    request: pytest.FixtureRequest, form: str, alphas: list[float], poisoned: bool, error: Any, match: str
) -> None:
    made = request.getfixturevalue("world" if form == "dual" else "narrow")
    responses = made.responses.copy()
    if poisoned:
        responses[3, 17] = np.nan
    with pytest.raises(error, match=match):
        nested_ridge(getattr(made, form), responses, made.folds, alphas)
