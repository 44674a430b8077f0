# SPDX-License-Identifier: Apache-2.0
"""Scores, ceilings, significance, intervals and ranks. Never imports torch.

In the order of an analysis: ``scores`` (additive block statistics and the noise-corrected score), ``gates`` (which ROIs
enter), ``influence`` and ``intervals`` (uncertainty), ``ranking`` (paired tests, ranks, badges); ``ceilings`` and
``extrapolation``; ``permutation``, ``surrogates``, ``nulls``, ``tails``, ``detrending`` and ``fdr`` (significance);
``bootstrap``; ``partition`` (unique, split and common variance); ``geometry`` (RDM tests, unbiased distances, match ranks).
"""
