# SPDX-License-Identifier: Apache-2.0
"""Invariants of the measurement, checked on simulated worlds whose truth is known (statistics.md, section 1).

Every check runs the code that real scores go through and compares a measured figure with a stated bound. ``suite`` lists
them; ``nulls`` and ``geometries`` (A), ``ceilings`` (B), ``ranking`` (C, H), ``selection`` (D), ``leakage`` (E), ``confounds``
and ``partitions`` (F), ``ablations`` (G) and ``invariances`` (I) hold them. ``real`` asks real responses what it can.
"""
