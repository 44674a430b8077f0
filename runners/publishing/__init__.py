# SPDX-License-Identifier: Apache-2.0
"""Records as a data set that others can load."""
