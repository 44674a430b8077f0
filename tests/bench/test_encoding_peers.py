# SPDX-License-Identifier: Apache-2.0
"""Our solvers beside the field's own pipelines on their own jobs: Huth's bootstrap ridge, LITcoder, Brain-Score, sklearn.

The first two choose alpha as we can, so their alphas and scores must be ours. Brain-Score's and sklearn's choose it by
leaving out single TRs, whose neighbours stay: their mean test correlation is reported beside ours.
"""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bench_peers import brainscore_ridge, huth_ridge, litcoder_nested
from bench_ridge import Data, job, relative, timed
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.bootstrap import bootstrap_ridge
from voxelboard.benchmark.encoding.designs import primal_problem
from voxelboard.benchmark.encoding.ridge import fit_ridge

ALPHAS = np.logspace(1, 6, 10)
N_DRAWS, CHUNK_TRS, N_CHUNKS = 15, 40, 5

pytestmark = pytest.mark.timeout(900)  # a peer takes half a minute a round, more on a busy machine


@pytest.fixture(scope="module")
def data() -> Data:
    return Data(1000, 300, 3000)


def r_of(p: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    p, y = p - p.mean(0), y - y.mean(0)
    power = (p**2).sum(0) * (y**2).sum(0)
    return np.asarray(np.divide((p * y).sum(0), np.sqrt(power), out=np.zeros(p.shape[1]), where=power > 0))


@job("Huth bootstrap ridge n1000 p1200 V3000 A10, 15 draws")
@pytest.mark.parametrize("who", ["ours_float64", "ours_every_alpha", "ours", "huth"])
def test_bootstrap_ridge(benchmark: Any, data: Data, who: str) -> None:
    peer = huth_ridge()

    def run_peer() -> Any:
        random.seed(0)
        return peer.bootstrap_ridge(
            data.X, data.Y, data.X_test, data.Y_test, np.sqrt(ALPHAS), N_DRAWS, CHUNK_TRS, N_CHUNKS,
            use_corr=True, return_wt=False,
        )  # fmt: skip

    _, r, alphas, _, left_out = run_peer()

    def run_ours(**options: Any) -> Any:
        problem, units = primal_problem(data.X, data.X_test), relative(ALPHAS, data.X)
        return bootstrap_ridge(problem, data.Y, [np.asarray(rows) for rows in left_out], units, **options)

    runs: dict[str, Callable[[], Any]] = {
        "ours_float64": run_ours,
        "ours_every_alpha": lambda: run_ours(precision="float32"),
        "ours": lambda: run_ours(precision="float32", search="thinned"),
        "huth": run_peer,
    }
    timed(benchmark, runs[who], runs["ours"], rounds=1)
    ours = runs["ours" if who == "huth" else who]()
    same = np.abs(np.log10(ours.alphas / alphas**2)) < 1e-6
    difference = np.abs(r_of(ours.test_predictions, data.Y_test) - r)[same]
    benchmark.extra_info.update(same_alpha=float(same.mean()), max=float(difference.max()))
    assert same.mean() > 0.998
    assert difference.max() < 5e-5


@job("LITcoder: 5 contiguous folds and a test story, n1000 p1200 V3000 A10")
@pytest.mark.parametrize("who", ["ours", "litcoder"])
def test_train_test_fit(benchmark: Any, data: Data, who: str) -> None:
    model = litcoder_nested().NestedCVModel("ridge")

    def run_peer() -> Any:
        return model.fit_predict(
            data.X.astype(np.float32), data.Y, data.X_test.astype(np.float32), data.Y_test,
            folding_type="kfold", n_inner_folds=5, alphas=np.sqrt(ALPHAS).tolist(), use_gpu=False, normalpha=False,
        )  # fmt: skip

    def run_ours() -> Any:
        problem, units = primal_problem(data.X, data.X_test).to_dual(), relative(ALPHAS, data.X)
        return fit_ridge(problem, data.Y, data.folds, units, selection="correlation", precision="float32")

    timed(benchmark, run_ours if who == "ours" else run_peer, run_ours, rounds=1)
    (metrics, _, alphas), ours = run_peer(), run_ours()
    same = np.abs(np.log10(ours.alphas / alphas**2)) < 1e-3
    difference = np.abs(r_of(ours.test_predictions, data.Y_test) - np.asarray(metrics["correlations"]))[same]
    benchmark.extra_info.update(same_alpha=float(same.mean()), max=float(difference.max()))
    assert same.mean() > 0.99
    assert difference.max() < 1e-3


def single_tr(data: Data, who: str) -> NDArray[np.float64]:
    """Test predictions of a ridge whose alpha is chosen by leaving out single TRs."""
    if who == "brainscore":
        model = brainscore_ridge()(alphas=ALPHAS, device="cpu")
    else:
        from sklearn.linear_model import RidgeCV

        model = RidgeCV(alphas=ALPHAS, alpha_per_target=True)
    model.fit(data.X, data.Y.astype(np.float64))
    return np.asarray(model.predict(data.X_test))


@job("alpha by single TRs n1000 p1200 V3000 A10")
@pytest.mark.parametrize("who", ["ours", "brainscore", "sklearn"])
def test_leaving_out_single_trs(benchmark: Any, data: Data, who: str) -> None:
    def run_ours() -> NDArray[np.float32]:
        problem, units = primal_problem(data.X, data.X_test).to_dual(), relative(ALPHAS, data.X)
        return fit_ridge(problem, data.Y, data.folds, units, precision="float32").test_predictions

    run: Callable[[], NDArray[Any]] = run_ours if who == "ours" else lambda: single_tr(data, who)
    predictions = timed(benchmark, run, run_ours, rounds=1)
    ours, theirs = (float(r_of(p, data.Y_test).mean()) for p in (run_ours(), predictions))
    benchmark.extra_info.update(mean_r=theirs, mean_r_ours=ours)
    assert np.isfinite([ours, theirs]).all()
