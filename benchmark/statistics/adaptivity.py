# SPDX-License-Identifier: Apache-2.0
"""What many tries are worth: the best of n submissions without any merit, and how much better a new one must be.

A team that submits 100 null models and shows the best gains about 2.5 standard errors (statistics.md D5). The Ladder (Blum &
Hardt 2015) counts a submission as progress only if it beats the team's best by a margin; here the margin is that of a paired
test at ``alpha`` over the number of tries (Bonferroni), so that no sequence of null submissions moves up by chance.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats as distributions

from voxelboard.benchmark.statistics.scores import FloatArray


def best_of_nulls(n_submissions: int) -> float:
    """Expected greatest of ``n_submissions`` independent standard normal scores, in standard errors.

    Blom 1958's approximation, within .02 of the exact value for any n.
    """
    if n_submissions < 1:
        raise ValueError(f"{n_submissions} submissions")
    if n_submissions == 1:
        return 0.0
    return float(distributions.norm.ppf((n_submissions - 0.375) / (n_submissions + 0.25)))


def ladder_margin(standard_error: float, n_submissions: int, *, df: float = np.inf, alpha: float = 0.05) -> float:
    """How much better than the team's best so far submission number ``n_submissions`` must be to count as better."""
    if n_submissions < 1 or not 0 < alpha < 1:
        raise ValueError(f"{n_submissions} submissions at alpha {alpha}")
    return float(distributions.t.isf(alpha / n_submissions, df) * standard_error)


def ladder(scores: Sequence[float], standard_error: float, *, df: float = np.inf, alpha: float = 0.05) -> FloatArray:
    """(n_submissions,) a team's best accepted score after each of its submissions, in the order of submission.

    Parameters
    ----------
    scores : of one team on one task.
    standard_error : of a paired difference between two of them.
    """
    accepted = np.empty(len(scores))
    best, margin = -np.inf, ladder_margin(standard_error, len(scores), df=df, alpha=alpha)
    for k, score in enumerate(scores):
        if k == 0 or score > best + margin:
            best = score
        accepted[k] = best
    return accepted
