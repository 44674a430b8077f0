# SPDX-License-Identifier: Apache-2.0
"""One file per public data set, and one for the simulated one."""
