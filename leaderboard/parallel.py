# SPDX-License-Identifier: Apache-2.0
"""The same work for many items on all cores, by processes that share what is already read."""

import multiprocessing
import os
import pickle
import warnings
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any, TypeVar

from voxelboard.benchmark.records import Record

T = TypeVar("T")
_job: list[Callable[[int], Any]] = []


def n_workers() -> int:
    """Cores that this process may use; one where processes cannot be forked."""
    forks = "fork" in multiprocessing.get_all_start_methods()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if forks else 1


def for_each(work: Callable[[int], T], n_items: int, workers: int) -> list[T]:
    """``[work(0), ..., work(n_items - 1)]``, in ``workers`` forked processes when that is more than one.

    A fork reads the caller's memory, so nothing is sent to it; what comes back is pickled. An item whose work raises is done
    again here, so that the caller sees the exception itself.
    """
    if workers < 2 or n_items < 2:
        return [work(index) for index in range(n_items)]
    _job.append(work)
    try:
        with warnings.catch_warnings():
            # from 3.12 on a fork of a process with threads warns; the workers use numpy and files, no locks of ours
            warnings.simplefilter("ignore", DeprecationWarning)
            with multiprocessing.get_context("fork").Pool(min(workers, n_items)) as pool:
                done = pool.map(_attempt, range(n_items), chunksize=1)
    finally:
        _job.pop()
    return [value if fine else work(index) for index, (fine, value) in enumerate(done)]


def _attempt(index: int) -> tuple[bool, Any]:
    try:
        return True, _job[-1](index)
    except Exception:  # noqa: BLE001  it is raised by the caller's own attempt
        return False, None


def pack(value: Any, records: Sequence[Record]) -> bytes:
    """Pickle a value; records that both sides have are sent by their place in ``records``."""
    places = {id(record): place for place, record in enumerate(records)}
    stream = BytesIO()
    pickler = pickle.Pickler(stream, protocol=pickle.HIGHEST_PROTOCOL)
    pickler.persistent_id = lambda value: places.get(id(value)) if isinstance(value, Record) else None  # type: ignore[method-assign]
    pickler.dump(value)
    return stream.getvalue()


def unpack(packed: bytes, records: Sequence[Record]) -> Any:
    """What :func:`pack` made, with the records of this side; only for bytes of an own process."""
    unpickler = pickle.Unpickler(BytesIO(packed))  # noqa: S301  made by our own fork
    unpickler.persistent_load = lambda place: records[place]  # type: ignore[method-assign]
    return unpickler.load()
