# SPDX-License-Identifier: Apache-2.0
"""The board imports this package to rank: no module of it may bring in torch."""

import subprocess
import sys


def test_no_module_imports_torch():
    code = (
        "import importlib, pkgutil, sys\n"
        "import voxelboard.benchmark.statistics as package\n"
        "names = [m.name for m in pkgutil.iter_modules(package.__path__)]\n"
        "[importlib.import_module(f'{package.__name__}.{name}') for name in names]\n"
        "assert len(names) >= 14, names\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'himalaya') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
