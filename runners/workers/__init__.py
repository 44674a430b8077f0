# SPDX-License-Identifier: Apache-2.0
"""Cells in processes of their own: the pool, its fork server, the fences around a process, and what a person sees."""
