# SPDX-License-Identifier: Apache-2.0
"""Small functions that return one SVG each: escaped, titled, described, coloured by the stylesheet alone."""

from voxelboard.leaderboard.charts.axes import Axis, Marker, shared_axis, ticks
from voxelboard.leaderboard.charts.distributions import subject_dots, voxel_histogram
from voxelboard.leaderboard.charts.intervals import axis_header, headline_chart, interval_bar, rank_rail, roi_bar
from voxelboard.leaderboard.charts.layers import layer_profile, layer_sparkline

__all__ = [
    "Axis",
    "Marker",
    "axis_header",
    "headline_chart",
    "interval_bar",
    "layer_profile",
    "layer_sparkline",
    "rank_rail",
    "roi_bar",
    "shared_axis",
    "subject_dots",
    "ticks",
    "voxel_histogram",
]
