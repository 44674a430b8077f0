# SPDX-License-Identifier: Apache-2.0
"""Code of other projects that the benchmarks run beside ours, from checkouts of their own: none of it is kept here.

``VOXELBOARD_PEERS`` names a folder with any of the checkouts ``deep-fMRI-dataset`` (HuthLab), ``litcoder_core`` (GT-LIT-Lab,
needs statsmodels) and ``language`` (brain-score). What is not there is skipped, and says so.
"""

import importlib
import importlib.util
import logging
import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def checkout(name: str) -> Path:
    """The folder of a peer; skips the benchmark where there is none."""
    folder = Path(os.environ.get("VOXELBOARD_PEERS", "")) / name
    if "VOXELBOARD_PEERS" not in os.environ or not folder.is_dir():
        pytest.skip(f"needs a checkout of {name} (set VOXELBOARD_PEERS to the folder that holds it)")
    return folder


def huth_ridge() -> Any:
    """``ridge_utils.ridge`` of the Huth laboratory."""
    with _importing(checkout("deep-fMRI-dataset") / "encoding", "ridge_utils"):
        return importlib.import_module("ridge_utils.ridge")


def huth_interpolation() -> Any:
    """``ridge_utils.interpdata`` of the Huth laboratory."""
    with _importing(checkout("deep-fMRI-dataset") / "encoding", "ridge_utils"):
        return importlib.import_module("ridge_utils.interpdata")


def litcoder_nested() -> Any:
    """``encoding.models.nested_cv`` of LITcoder, without the packages' own imports of everything else."""
    pytest.importorskip("statsmodels")
    folder = checkout("litcoder_core")
    with _importing(folder, "encoding"):
        for name in ("encoding", "encoding.models"):
            package = types.ModuleType(name)
            package.__path__ = [str(folder / name.replace(".", "/"))]
            sys.modules[name] = package
        return importlib.import_module("encoding.models.nested_cv")


def brainscore_ridge() -> Any:
    """``RidgeGCVTorch`` of Brain-Score Language."""
    metrics = checkout("language") / "brainscore_language" / "metrics"
    path = metrics / "linear_predictivity" / "ridgecv_gpu.py"
    spec = importlib.util.spec_from_file_location("brainscore_ridgecv_gpu", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.RidgeGCVTorch


@contextmanager
def _importing(folder: Path, package: str) -> Iterator[None]:
    """``folder`` on the path; modules of ``package`` are forgotten afterwards, two peers share a name."""
    logging.disable(logging.INFO)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
            del sys.modules[name]
        logging.disable(logging.NOTSET)
