# SPDX-License-Identifier: Apache-2.0
"""Responses where they are read: every layer of a model reads them, so a GPU that has room holds them."""

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.encoding.memory import estimate_memory
from voxelboard.benchmark.encoding.streaming import Responses
from voxelboard.benchmark.protocol import Protocol

# Of the free memory of a GPU, for the responses and a fit beside them; the rest is for what allocators keep.
_SHARE = 0.9
_BYTES_AT_ONCE = 64 << 20


def on_device(
    responses: NDArray[np.float32], n_test: int, n_features: int, protocol: Protocol, device: torch.device
) -> Responses:
    """The responses (n_train, n_voxels) of a fold: on the GPU where they fit beside a fit, else as they are.

    From the host they cross the bus twice for each fit, block after block; there they are read in place. The numbers, and so
    the results, are the same.
    """
    if device.type != "cuda":
        return responses
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(
        device
    )  # by the allocator, for what comes next
    return moved(responses, device) if fits(responses.shape, n_test, n_features, protocol, free + kept) else responses


def fits(shape: tuple[int, ...], n_test: int, n_features: int, protocol: Protocol, free_bytes: int) -> bool:
    """Whether float32 responses of this shape and the fit of a layer have room together."""
    n_train, n_voxels = shape
    fit = estimate_memory(
        n_train=n_train,
        n_test=n_test,
        n_features=n_features,
        n_delays=len(protocol.design.delays_trs),
        n_targets=n_voxels,
        n_alphas=len(protocol.encoding.relative_alphas),
        n_folds=protocol.encoding.n_inner_folds,
        on_gpu=True,
    )
    return 4 * n_train * n_voxels + fit.device <= _SHARE * free_bytes


def moved(responses: NDArray[np.float32], device: torch.device) -> torch.Tensor:
    """A copy (n_train, n_voxels) float32 on the device, a few rows at a time: a memory map is read once, in order."""
    copy = torch.empty(responses.shape, dtype=torch.float32, device=device)
    rows = max(1, _BYTES_AT_ONCE // (4 * max(1, responses.shape[1])))
    for first in range(0, len(responses), rows):
        part = np.array(responses[first : first + rows], dtype=np.float32)
        copy[first : first + rows] = torch.from_numpy(part)
    return copy
