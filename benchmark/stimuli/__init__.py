# SPDX-License-Identifier: Apache-2.0
"""Timed words and the text they come from."""
