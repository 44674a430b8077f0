# SPDX-License-Identifier: Apache-2.0
"""Studies that train models of their own: what the board shows beside its ranks."""
