# SPDX-License-Identifier: Apache-2.0
"""The queue of models that wait to be scored, where they come from, and the nightly round."""
