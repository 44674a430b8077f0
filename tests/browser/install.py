# SPDX-License-Identifier: Apache-2.0
"""Get what the browser tests need, where that is possible: axe-core and html-validate from npm, Chromium from Debian.

Always exits 0: where something cannot be had, the tests that need it skip and say so. A package of the system is installed
only where a CI system says that the machine is its own (``CI`` is set) and the user is root.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def run(*command: str) -> bool:
    """Whether the command could be run and succeeded; its output goes to stderr."""
    try:
        return subprocess.run(command, stdout=sys.stderr, check=False, timeout=600).returncode == 0
    except (OSError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"{command[0]}: {error}\n")
        return False


def main() -> None:
    """Install what is missing."""
    have_modules = (HERE / "node_modules" / "axe-core").is_dir()
    if not (
        have_modules or (shutil.which("npm") and run("npm", "ci", "--no-audit", "--no-fund", "--prefix", str(HERE)))
    ):
        sys.stderr.write("browser tests: axe-core and html-validate are not installed (npm ci in tests/browser)\n")
    if not any(shutil.which(name) for name in BROWSERS):
        ours = bool(os.environ.get("CI")) and os.geteuid() == 0 and shutil.which("apt-get") is not None
        if not ours or not run("apt-get", "install", "-y", "-q", "--no-install-recommends", "chromium"):
            sys.stderr.write("browser tests: no Chromium here (apt-get install chromium)\n")


if __name__ == "__main__":
    main()
