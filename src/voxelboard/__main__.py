# SPDX-License-Identifier: Apache-2.0
"""``python -m voxelboard`` and the ``voxelboard`` command."""

import os
import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    # Threads that wait by spinning starve each other on a shared machine: 10 times the wall time, measured with two
    # runs on two cores. Read by the OpenMP runtimes when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    from voxelboard.runners.cli import run_cli

    sys.exit(run_cli())


if __name__ == "__main__":
    main()
