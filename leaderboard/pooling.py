# SPDX-License-Identifier: Apache-2.0
"""Subjects' estimates of one row pooled into one score, one layer profile, one histogram."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from voxelboard.benchmark.records import Estimate, Facet, LayerProfile
from voxelboard.benchmark.statistics.intervals import Interval, default_scope, describe_scope
from voxelboard.benchmark.statistics.scores import FloatArray
from voxelboard.leaderboard.board import Ceiling, FacetScore, Histogram, Missing, Profile, Score
from voxelboard.leaderboard.cells import HISTOGRAM_EDGES, Cell
from voxelboard.leaderboard.charts.layers import LayerLine


def _gap(estimate: Estimate) -> str | None:
    """Why an estimate is no score; None for one with a number and an interval."""
    if estimate.estimate is None:
        return estimate.reason or "no reason given"
    if estimate.standard_error is None or estimate.low is None or estimate.high is None:
        return "the record gives no interval"
    return None


def pool_estimates(estimates: Sequence[Estimate | None]) -> Score:
    """Mean over subjects of numbers that have no block influence values (correlations), with a cautious interval.

    The subjects heard the same stimulus, so their errors may be shared: the stimulus part of the standard error is the
    mean of the subjects' (the bound for errors that are wholly shared), to which the variance between subjects is
    added from five subjects on.
    """
    return pool_many([estimates])[0]


def pool_many(listed: Sequence[Sequence[Estimate | None]]) -> list[Score]:
    """:func:`pool_estimates` of many numbers, those with equally many subjects at once."""
    found: list[Score] = [Missing("no subject has a score")] * len(listed)
    groups: dict[int, list[tuple[int, list[Estimate]]]] = defaultdict(list)
    for place, estimates in enumerate(listed):
        held = []
        for estimate in estimates:
            gap = "not in the record" if estimate is None else _gap(estimate)
            if estimate is None or gap is not None:
                found[place] = Missing(gap or "")
                break
            held.append(estimate)
        else:
            if held:
                groups[len(held)].append((place, held))
    for n_subjects, members in groups.items():
        values = np.array([[one.estimate for one in held] for _, held in members], dtype=np.float64).T
        errors = np.array([[one.standard_error for one in held] for _, held in members], dtype=np.float64).T
        n_blocks = np.array([min(one.n for one in held) for _, held in members])
        half, se, df = _half_width(values, errors, n_blocks)
        mean = values.mean(axis=0)
        what = f"mean over subjects, shared-error bound, {describe_scope(default_scope(n_subjects), n_subjects)}"
        for index, (place, _) in enumerate(members):
            middle, reach = float(mean[index]), float(half[index])
            found[place] = Interval(
                middle, float(se[index]), middle - reach, middle + reach, float(df[index]), int(n_blocks[index]), what
            )
    return found


def _half_width(
    values: FloatArray, errors: FloatArray, n_blocks: NDArray[np.int64] | int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Half widths, standard errors and degrees of freedom of column means; both inputs (n_subjects, n_columns)."""
    n_subjects = len(values)
    stimulus = errors.mean(axis=0) ** 2
    between = np.zeros_like(stimulus)
    if default_scope(n_subjects) == "subjects+stimuli":
        between = values.var(axis=0, ddof=1) / n_subjects
    of_blocks = np.maximum(n_blocks - 1, 1).astype(np.float64)
    spread = stimulus**2 / of_blocks + between**2 / max(n_subjects - 1, 1)
    total = stimulus + between
    df = np.divide(total**2, spread, out=np.broadcast_to(of_blocks, spread.shape).copy(), where=spread > 0)
    se = np.sqrt(total)
    half: FloatArray = special.stdtrit(np.maximum(df, 1.0), 0.975) * se  # t.ppf without its checks
    return half, se, df


def pool_facets(listed: Sequence[Sequence[Facet]]) -> tuple[FacetScore, ...]:
    """Parts over the subjects that have them, in the order of the first subject's; intervals as :func:`pool_estimates`.

    A subject whose signal in a region is below its gate has no number there; the others are pooled, and the estimator says
    how many they are.
    """
    found: dict[tuple[str, str, str | None], dict[str, list[Estimate]]] = {}
    for facets in listed:
        for facet in facets:
            scores = found.setdefault((facet.axis, facet.value, facet.roi), {})
            for name, estimate in facet.scores.items():
                scores.setdefault(name, []).append(estimate)
    places = [(place, name) for place, scores in found.items() for name in scores]
    pooled = _pool_those_that_have_one([found[place][name] for place, name in places])
    by_place: dict[tuple[str, str, str | None], dict[str, Score]] = defaultdict(dict)
    for (place, name), score in zip(places, pooled, strict=True):
        by_place[place][name] = score
    return tuple(FacetScore(*place, by_place[place]) for place in found)


def _pool_those_that_have_one(listed: Sequence[Sequence[Estimate]]) -> list[Score]:
    held = [[one for one in estimates if _gap(one) is None] for estimates in listed]
    pooled = pool_many([own or estimates for own, estimates in zip(held, listed, strict=True)])
    return [
        score
        if isinstance(score, Missing) or len(own) == len(estimates)
        else replace(score, estimator=f"{score.estimator}; {len(own)} of {len(estimates)} subjects have a number")
        for score, own, estimates in zip(pooled, held, listed, strict=True)
    ]


def pool_ceilings(estimates: Sequence[Estimate | None], kind: str) -> Ceiling | Missing:
    """Mean and range over the subjects that have one: a subject whose signal power is not above 0 has none."""
    if kind == "none":
        return Missing("this data set has no ceiling")
    values = [estimate.estimate for estimate in estimates if estimate is not None and estimate.estimate is not None]
    if not values or None in estimates:
        return Missing("not in the records")
    return Ceiling(kind, len(values), float(np.mean(values)), min(values), max(values))


def pool_profiles(layers: Sequence[dict[str, LayerProfile]], order: Iterable[str]) -> tuple[Profile, ...]:
    """One profile per ROI: those of ``order`` first."""
    listed = {roi for profiles in layers for roi in profiles}
    rois = [roi for roi in dict.fromkeys(order) if roi in listed]
    rois += sorted(listed - set(rois))
    return tuple(_pool_roi(roi, [profiles[roi] for profiles in layers if roi in profiles]) for roi in rois)


def _pool_roi(roi: str, listed: Sequence[LayerProfile]) -> Profile:
    # a subject whose signal in this ROI is below the gate has no test score in any layer
    profiles = [p for p in listed if any(layer.estimate is not None for layer in p.test)] or listed
    n_layers = max(len(profile.test) for profile in profiles)
    chosen = tuple(sorted(layer for profile in profiles for layer in profile.chosen))
    inner = LayerLine(_means([profile.inner for profile in profiles], n_layers))
    estimate = _means([tuple(e.estimate for e in profile.test) for profile in profiles], n_layers)
    low: list[float | None] = [None] * n_layers
    high: list[float | None] = [None] * n_layers
    at_layer = [[p.test[layer] if layer < len(p.test) else None for p in profiles] for layer in range(n_layers)]
    for layer, score in enumerate(pool_many(at_layer)):
        if isinstance(score, Interval):
            low[layer], high[layer] = score.low, score.high
    return Profile(roi, inner, LayerLine(estimate, tuple(low), tuple(high)), chosen)


def overview_profile(profiles: Sequence[Profile]) -> Profile | None:
    """Mean over ROIs, for a sparkline; the chosen layer is the most frequent one, the lower at a tie."""
    if not profiles:
        return None
    n_layers = max(len(profile.test.estimate) for profile in profiles)
    test = LayerLine(_means([profile.test.estimate for profile in profiles], n_layers))
    inner = LayerLine(_means([profile.inner.estimate for profile in profiles], n_layers))
    counted = Counter(layer for profile in profiles for layer in profile.chosen)
    chosen = min(counted, key=lambda layer: (-counted[layer], layer)) if counted else None
    return Profile("mean over regions", inner, test, () if chosen is None else (chosen,))


def _means(curves: Sequence[Sequence[float | None]], n_layers: int) -> tuple[float | None, ...]:
    """Mean per layer over the curves, None where one of them has no number: a mean over fewer would mislead."""
    means: list[float | None] = []
    for layer in range(n_layers):
        values = [curve[layer] if layer < len(curve) else None for curve in curves]
        held = [value for value in values if value is not None]
        means.append(sum(held) / len(held) if held and len(held) == len(values) else None)
    return tuple(means)


def pool_histogram(cells: Iterable[Cell]) -> Histogram | None:
    """Voxels of all subjects together; rows that one of the subjects lacks are left out."""
    listed = list(cells)
    if not listed:
        return None
    rows = [row for row in listed[0].voxels if all(row in cell.voxels for cell in listed)]
    if not rows:
        return None
    counts = {row: tuple(int(n) for n in np.sum([cell.voxels[row] for cell in listed], axis=0)) for row in rows}
    total, n = (sum(cell.ceilings[i] for cell in listed) for i in (0, 1))
    return Histogram(HISTOGRAM_EDGES, counts, float(total / n) if n else None)
