# SPDX-License-Identifier: Apache-2.0
"""Geometries and matches: RDMs, RSA, searchlight, retrieval of captions, contrasts, comparisons between subjects."""
