# SPDX-License-Identifier: Apache-2.0
"""Anything that turns text into one state per word and layer."""
