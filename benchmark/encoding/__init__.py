# SPDX-License-Identifier: Apache-2.0
"""Linear encoders from stimulus features to brain responses."""
