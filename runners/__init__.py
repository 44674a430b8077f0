# SPDX-License-Identifier: Apache-2.0
"""Who executes what, where: the command line, plans and stores."""
