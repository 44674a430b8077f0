# SPDX-License-Identifier: Apache-2.0
"""Getting the files of a data set: listed, downloaded in parallel, resumed, checked."""
