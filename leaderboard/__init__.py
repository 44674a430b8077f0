# SPDX-License-Identifier: Apache-2.0
"""Records in, pages out. Never imports torch."""
