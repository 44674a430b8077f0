# SPDX-License-Identifier: Apache-2.0
"""Batches of texts of similar length, as large as memory allows."""

import logging
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import torch

from voxelboard.benchmark.errors import MissingPrerequisite, UserError

BatchSize = int | Literal["auto"]
Item = TypeVar("Item")

logger = logging.getLogger(__name__)

# On a CPU batching gains little, and texts beyond the cache cost (performance.md 6).
_CPU_TOKENS = 1024
# Enough to keep a large accelerator busy; beyond it only memory grows.
_MOST_TOKENS = 32768
# The activations inside a block are about this many times the width of a state.
_BLOCK_WIDTHS = 40
_MEMORY_SHARE = 0.4
# How PyTorch's CPU allocator says it, and CUDA's libraries, which ask for memory of their own beside PyTorch's allocator.
_NO_MEMORY = (
    "not enough memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def token_budget(device: torch.device, n_layers: int, n_features: int, dtype: torch.dtype) -> int:
    """Padded tokens in a batch: what fits into a share of the free memory with the states of all layers."""
    if device.type != "cuda":
        return _CPU_TOKENS
    free, _ = torch.cuda.mem_get_info(device)
    # the states of every layer in the model's precision, their pooled copies in float32, one block's activations
    per_token = n_features * (n_layers * (dtype.itemsize + 4) + _BLOCK_WIDTHS * dtype.itemsize)
    return max(1, min(_MOST_TOKENS, int(free * _MEMORY_SHARE) // per_token))


class Batcher:
    """Runs items in batches and halves the batch when memory runs out; it remembers what fitted.

    Parameters
    ----------
    batch_size : greatest number of items, or "auto" for as many as ``budget`` padded tokens.
    budget : tokens.
    """

    def __init__(self, batch_size: BatchSize, budget: int) -> None:
        if batch_size != "auto" and batch_size < 1:
            raise UserError(f"batch size {batch_size!r}: allowed are auto and whole numbers from 1")
        self._budget = budget if batch_size == "auto" else None
        self._max_rows = None if batch_size == "auto" else int(batch_size)

    def run(self, items: Sequence[Item], length: Callable[[Item], int], step: Callable[[list[Item]], None]) -> int:
        """Call ``step`` on batches, the longest items first, so that memory runs out at once or never.

        Returns the size of the largest batch that passed.

        Raises
        ------
        MissingPrerequisite
            when a single item does not fit into memory.
        """
        waiting = sorted(items, key=length, reverse=True)
        largest = done = 0
        while done < len(waiting):
            batch = waiting[done : done + self._rows(length(waiting[done]))]
            failure = _try(step, batch)
            if failure is None:
                done += len(batch)
                largest = max(largest, len(batch))
            else:
                self._shrink(len(batch), length(batch[0]), failure)
        return largest

    def _rows(self, longest: int) -> int:
        rows = self._max_rows
        if self._budget is not None:
            by_budget = max(1, self._budget // max(1, longest))
            rows = by_budget if rows is None else min(rows, by_budget)
        return rows or 1

    def _shrink(self, rows: int, longest: int, failure: str) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if rows == 1:
            raise MissingPrerequisite(
                f"out of memory with a single text of {longest} tokens ({failure})",
                "use --dtype bfloat16, a device with more memory, or a smaller model",
            )
        self._max_rows = rows // 2
        logger.info("out of memory with %d texts of up to %d tokens, going on with %d", rows, longest, self._max_rows)


def _try(step: Callable[[list[Item]], None], batch: list[Item]) -> str | None:
    """None, or the first line of an out-of-memory message; returned, so that the frames that hold memory are gone."""
    try:
        step(batch)
    except torch.OutOfMemoryError as error:
        return _first_line(error)
    except RuntimeError as error:
        if not any(words in str(error) for words in _NO_MEMORY):
            raise
        return _first_line(error)
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
