# SPDX-License-Identifier: Apache-2.0
"""Many objects that all stay: without the cyclic collector, which looks at every one of them again and again."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """No cyclic collection inside; as it was afterwards. Reading thousands of records takes half of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
