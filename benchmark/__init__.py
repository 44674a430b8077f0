# SPDX-License-Identifier: Apache-2.0
"""The science: stimuli, models, features, encoding, statistics, the tasks, the frozen protocol, the record of a score."""
