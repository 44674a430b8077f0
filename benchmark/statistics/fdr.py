# SPDX-License-Identifier: Apache-2.0
"""False discovery rate over voxels, and how many draws it takes."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from voxelboard.benchmark.errors import InvalidNumbers, UserError
from voxelboard.benchmark.statistics.nulls import NullTest
from voxelboard.benchmark.statistics.scores import BoolArray, FloatArray


@dataclass(frozen=True, eq=False)
class Discoveries:
    """Tests that survive at a false discovery rate.

    Attributes
    ----------
    rejected : (n_tests,).
    adjusted : (n_tests,) smallest rate at which each test is rejected.
    p : (n_tests,) what went in.
    p_kind : "counted" (1 + exceedances) / (1 + draws), or "gaussian tail" where the draws were too few to count.
    """

    rejected: BoolArray
    adjusted: FloatArray
    p: FloatArray
    p_kind: Literal["counted", "gaussian tail"]


def benjamini_hochberg(p: FloatArray, q: float = 0.05) -> tuple[BoolArray, FloatArray]:
    """Step-up procedure of Benjamini & Hochberg 1995, valid under independence and positive dependence.

    Parameters
    ----------
    p : (n_tests,).

    Returns
    -------
    rejected, adjusted : each (n_tests,).
    """
    if not ((p > 0) & (p <= 1)).all():
        raise InvalidNumbers("p values must lie in (0, 1]: a permutation p of 0 or NaN is a bug upstream")
    order = np.argsort(p, kind="stable")[::-1]
    factors = len(p) / np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(p[order] * factors))
    return adjusted <= q, adjusted


def required_draws(n_tests: int, q: float, n_expected: int) -> int:
    """Draws that counted p values need: ``10 m / (q m_expected)`` (statistics.md A5).

    Below it the floor ``1 / (1 + draws)`` of p is above what the step-up procedure can reject: power 0.
    """
    if n_tests < 1 or not 0 < q < 1 or not 1 <= n_expected <= n_tests:
        raise ValueError(f"need 1 <= n_expected <= n_tests and 0 < q < 1, got {n_expected}, {n_tests}, {q}")
    return int(np.ceil(10 * n_tests / (q * n_expected)))


def discover(
    test: NullTest, *, q: float = 0.05, n_expected: int, few_draws: Literal["fit tail", "refuse"] = "fit tail"
) -> Discoveries:
    """Voxels with a true effect, at false discovery rate ``q``.

    Parameters
    ----------
    n_expected : voxels with an effect that the analysis should be able to find; sets the draws that counting needs.
    few_draws : fit a Gaussian to each voxel's null when there are fewer, or refuse.

    Raises
    ------
    UserError
        for too few draws with ``few_draws="refuse"``.
    """
    needed = required_draws(len(test.observed), q, n_expected)
    kind: Literal["counted", "gaussian tail"] = "counted"
    if test.n_draws < needed:
        if few_draws == "refuse":
            raise UserError(
                f"{test.n_draws} permutations cannot reject {n_expected} of {len(test.observed)} voxels at FDR {q:g}",
                f"use {needed} permutations or more, or the tail fit",
            )
        kind = "gaussian tail"
    p = test.p if kind == "counted" else test.gaussian_p
    rejected, adjusted = benjamini_hochberg(p, q)
    return Discoveries(rejected, adjusted, p, kind)
