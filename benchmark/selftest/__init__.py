# SPDX-License-Identifier: Apache-2.0
"""Invariants of the measurement, checked on simulated worlds whose truth is known (statistics.md, section 1).

Every check runs the code that real scores go through and compares a measured figure with a stated bound. ``suite`` lists
them; ``nulls`` (A), ``ceilings`` (B), ``ranking`` (C, H), ``selection`` (D), ``leakage`` (E), ``confounds`` (F) and
``invariances`` (I) hold them. Letter G waits for the ablation task.
"""
