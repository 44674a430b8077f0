# SPDX-License-Identifier: Apache-2.0
"""From model states to time-aligned designs, and the store that keeps them."""
