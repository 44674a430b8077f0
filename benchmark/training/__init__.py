# SPDX-License-Identifier: Apache-2.0
"""Language models trained from scratch on the versions of a corpus."""
