# SPDX-License-Identifier: Apache-2.0
"""Landlock: a Linux process gives up, for itself and its children, all files but the ones that it names.

The kernel's interface (https://docs.kernel.org/userspace-api/landlock.html) called through ctypes, because no package
on PyPI wraps more than its first version. Needs no privilege; kernels from 5.13 on have it, containers may switch it off.
"""

import ctypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION = 1
_PATH_BENEATH = 1
_O_PATH = 0o10000000
_NO_NEW_PRIVS = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_AND_REMOVE = sum(1 << bit for bit in range(4, 13))
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_ADDED_IN_VERSION = {2: _REFER, 3: _TRUNCATE, 5: _IOCTL_DEV}
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_TCP = 0b11  # bind and connect, from version 4 on
_SCOPES = 0b11  # abstract unix sockets and signals to processes outside, from version 6 on


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """The version of Landlock that this kernel has, 0 for none."""
    return max(0, _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION)))


def restrict(read: Iterable[Path], write: Iterable[Path], *, no_tcp: bool) -> bool:
    """Keep this process and its children from all files but these, for good.

    Parameters
    ----------
    read : folders and files that may be read and executed; missing ones are left out.
    write : folders and files that may also be written; devices among them keep their ``ioctl``.
    no_tcp : forbid TCP as well (kernel 6.7 and later).

    Returns
    -------
    False when the kernel has no Landlock, and then nothing is restricted.

    Raises
    ------
    OSError
        when the kernel has it and refuses.
    """
    found = version()
    if found == 0:
        return False
    handled = _EXECUTE | _WRITE_FILE | _READ_FILE | _READ_DIR | _MAKE_AND_REMOVE
    handled |= sum(right for since, right in _ADDED_IN_VERSION.items() if found >= since)
    rules = _Ruleset(handled, _TCP if no_tcp and found >= 4 else 0, _SCOPES if found >= 6 else 0)
    size = 24 if found >= 6 else 16 if found >= 4 else 8
    ruleset = _checked(_syscall(_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), ctypes.c_uint32(0)))
    try:
        for path in read:
            _allow(ruleset, path, (_EXECUTE | _READ_FILE | _READ_DIR) & handled)
        for path in write:
            _allow(ruleset, path, handled)
        _checked(_libc().prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(_syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)))
    finally:
        os.close(ruleset)
    return True


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        place = os.open(path, _O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # not there: nothing to allow
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _ON_FILES
        rule = _PathBeneath(rights, place)
        _checked(
            _syscall(
                _ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), ctypes.byref(rule), ctypes.c_uint32(0)
            )
        )
    finally:
        os.close(place)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _syscall(number: int, *arguments: object) -> int:
    return int(_libc().syscall(ctypes.c_long(number), *arguments))


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result
