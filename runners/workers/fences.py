# SPDX-License-Identifier: Apache-2.0
"""What keeps a submission in its place: no network, no files but its own, no more memory than it was given.

A process calls :func:`close_fences` on itself before it touches a model. Each fence holds where the system has it
(docs/security.md); what holds is returned, so that nobody believes in a fence that is not there.
"""

import ctypes
import os
import resource
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from voxelboard.runners.workers import landlock

Network = Literal["none", "no tcp", "open"]

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_PARENT_DEATH_SIGNAL = 1
_CAPABILITY_VERSION = 0x20080522
_KEPT_CAPABILITIES = 0b110  # DAC_OVERRIDE and DAC_READ_SEARCH: root reads the data of its users; Landlock still holds
_SYSTEM = ("/bin", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/nix", "/opt", "/proc", "/run", "/sbin", "/sys", "/usr")
# Not handed to a process that holds a stranger's model. A pattern, because every hub and cloud has its own name.
_SECRET_WORDS = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "API_KEY", "ACCESS_KEY", "PRIVATE_KEY")


@dataclass(frozen=True)
class Fences:
    """What holds.

    Attributes
    ----------
    network : ``none``: a network namespace of its own, without interfaces. ``no tcp``: Landlock refuses TCP, UDP goes
        through. ``open``: nothing holds.
    files : Landlock holds.
    """

    network: Network
    files: bool

    def __str__(self) -> str:
        network = {"none": "no network", "no tcp": "no TCP (UDP is open)", "open": "network open"}[self.network]
        return f"{network}, {'own files only' if self.files else 'files open'}"


def is_secret(name: str) -> bool:
    """Whether an environment variable holds a secret, by its name."""
    return any(word in name.upper().replace("TOKENIZER", "") for word in _SECRET_WORDS)


def without_secrets(environment: dict[str, str]) -> dict[str, str]:
    """An environment without the variables that hold secrets."""
    return {name: value for name, value in environment.items() if not is_secret(name)}


def close_fences(*, read: Iterable[Path] = (), write: Iterable[Path] = ()) -> Fences:
    """Shut this process in, for good. It must have one thread.

    Parameters
    ----------
    read : folders that may be read beside those of the system and of Python.
    write : folders that may be written.
    """
    network: Network = "none" if _leave_network() else "open"
    files = landlock.restrict([*readable_folders(), *read], [*write, Path("/dev")], no_tcp=network == "open")
    if network == "open" and files and landlock.version() >= 4:
        network = "no tcp"
    _drop_capabilities()
    return Fences(network, files)


def limit_resources(*, memory_bytes: int | None, file_bytes: int = 1 << 40) -> None:
    """Bound this process: its private memory, the size of a file, no core dumps.

    The bound is on private pages (``RLIMIT_DATA``): memory-mapped features and the address space that CUDA reserves do
    not count.
    """
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def die_with_parent(signal_number: int) -> None:
    """Let the kernel send this process a signal when its parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal_number, 0, 0, 0)


def readable_folders() -> list[Path]:
    """Where Python, its packages and the system's libraries lie."""
    import voxelboard
    from voxelboard import _resources, benchmark, runners

    own = [Path(folder) for folder in voxelboard.__path__]
    rooms = [Path(folder) for room in (benchmark, runners) for folder in room.__path__]
    folders = [
        *(Path(folder) for folder in _SYSTEM),
        Path(sys.prefix),
        Path(sys.base_prefix),
        *(Path(folder) for folder in sysconfig.get_paths().values()),
        *(Path(folder) for folder in sys.path if folder),
        *own,
        *rooms,
        _resources.cards_folder(),
        _resources.entries_folder(),
    ]
    return list(dict.fromkeys(folder.resolve() for folder in folders if folder.exists()))


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("process", ctypes.c_int))


def _drop_capabilities() -> None:
    """Give up what root may do beyond its own files: with CAP_PERFMON it could read the secrets of other processes."""
    if sys.platform != "linux":
        return
    header = _CapabilityHeader(_CAPABILITY_VERSION, 0)
    # (effective, permitted, inheritable) of the capabilities 0-31, then of 32-63
    sets = (ctypes.c_uint32 * 6)(_KEPT_CAPABILITIES, _KEPT_CAPABILITIES, 0, 0, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0 and libc.capset(ctypes.byref(header), ctypes.byref(sets)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot drop capabilities: {os.strerror(code)}")


def _leave_network() -> bool:
    """Move into a network namespace without interfaces; False where the system does not let an ordinary user."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_NEW_NETWORK) == 0:
        return True
    if libc.unshare(_NEW_USER | _NEW_NETWORK) != 0:
        return False
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        Path(f"/proc/self/{name}").write_text(text, encoding="ascii")
    return True
