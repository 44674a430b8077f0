# SPDX-License-Identifier: Apache-2.0
"""Scores, ceilings, significance, intervals and ranks. Never imports torch."""
