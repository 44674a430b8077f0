# SPDX-License-Identifier: Apache-2.0
"""One module per kind of page: what it shows, as plain values for its template."""
