# SPDX-License-Identifier: Apache-2.0
"""What this machine has: for ``doctor`` and bug reports. Holds no secret: a token is only said to be there."""

import os
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "torch",
    "transformers",
    "huggingface_hub",
    "datasets",
    "himalaya",
    "numpy",
    "scipy",
    "scikit-learn",
    "pydantic",
    "typer",
)
_TRUE = {"1", "ON", "YES", "TRUE"}  # as huggingface_hub reads its variables


def describe_machine() -> dict[str, dict[str, Any]]:
    """Sections of facts: versions, hardware, folders, data sets, network."""
    return {
        "versions": _versions(),
        "hardware": _hardware(),
        "folders": _folders(),
        "data sets": _datasets(),
        "network": _network(os.environ),
    }


def _versions() -> dict[str, str]:
    from voxelboard import __version__

    found = {"voxelboard": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def _hardware() -> dict[str, Any]:
    import torch

    facts: dict[str, Any] = {"cpu threads": torch.get_num_threads(), "cpu cores": os.cpu_count()}
    memory = _memory_bytes()
    if memory is not None:
        facts["memory"] = _size(memory)
    facts["gpus"] = torch.cuda.device_count()
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        facts[f"cuda:{index}"] = f"{properties.name}, {_size(properties.total_memory)}"
    return facts


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on every platform
        return None


def _folders() -> dict[str, str]:
    from huggingface_hub.constants import HF_HUB_CACHE

    from voxelboard._resources import cards_folder, entries_folder
    from voxelboard.benchmark.features.store import default_store_folder
    from voxelboard.benchmark.readers.registry import voxelboard_home

    return {
        "home": _free(voxelboard_home()),
        "feature store": _free(default_store_folder()),
        "model cache": _free(Path(HF_HUB_CACHE)),
        "results": _free(Path("results").resolve()),
        "submissions": str(entries_folder()),
        "cards": str(cards_folder()),
    }


def _free(folder: Path) -> str:
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    there = "" if existing == folder else ", not made yet"
    writable = "" if os.access(existing, os.W_OK) else ", NOT WRITABLE"
    return f"{folder} ({_size(shutil.disk_usage(existing).free)} free{there}{writable})"


def _datasets() -> dict[str, str]:
    from voxelboard.benchmark.readers.cards import list_cards
    from voxelboard.benchmark.readers.registry import available_datasets, registered_datasets

    here, folders = available_datasets(), registered_datasets()
    return {
        name: str(folders.get(name, "generated"))
        if name in here
        else f"not here: voxelboard data add {name} --from PATH"
        for name in list_cards()
    }


def _network(environment: Mapping[str, str]) -> dict[str, str]:
    offline = environment.get("HF_HUB_OFFLINE", "").upper() in _TRUE
    from huggingface_hub import get_token

    return {
        "offline": "yes (HF_HUB_OFFLINE)" if offline else "no",
        "hub": environment.get("HF_ENDPOINT", "https://huggingface.co"),
        "hub token": "present" if get_token() else "none (gated models need one: hf auth login)",
    }


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 2**30:.1f} GiB"
