# SPDX-License-Identifier: Apache-2.0
"""``python -m voxelboard`` and the ``voxelboard`` command."""

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    from voxelboard.runners.cli import run_cli

    sys.exit(run_cli())


if __name__ == "__main__":
    main()
