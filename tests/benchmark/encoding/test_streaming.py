# SPDX-License-Identifier: Apache-2.0
"""What the promise of equal bytes rests on: products of the stream's width, and one reading of the responses."""

from typing import Any

import numpy as np
import pytest
import torch

from voxelboard.benchmark.encoding.fractional import fit_fractional
from voxelboard.benchmark.encoding.ridge import fit_ridge
from voxelboard.benchmark.encoding.streaming import CPU_WIDTH, FEW, TargetStream


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("width", [CPU_WIDTH, FEW])
@pytest.mark.parametrize("n_out", [3, 41, 64, 301])
def test_a_column_has_the_same_bytes_wherever_it_stands(n_out: int, width: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(n_out)
    for n_inner in (60, 241, 1000):
        left = torch.randn(n_out, n_inner, dtype=dtype, generator=generator)
        block = torch.randn(n_inner, width, dtype=dtype, generator=generator)
        found, mean = left @ block, block.mean(0)
        for shift in (1, 8, 20, 112):
            moved = torch.roll(torch.arange(width), shift)
            assert torch.equal(left @ block[:, moved].contiguous(), found[:, moved])
            assert torch.equal(block[:, moved].contiguous().mean(0), mean[moved])


class CountedReads:
    """Responses that count how often they are read, as a memory map would be."""

    def __init__(self, values: Any) -> None:
        self.values, self.shape, self.n_read = values, values.shape, 0

    def __getitem__(self, key: Any) -> Any:
        found = self.values[key]
        self.n_read += found.size
        return found


def test_responses_are_read_once_and_in_order_whatever_the_groups() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((20, 1500)).astype(np.float32)
    counted: Any = CountedReads(values)
    group = rng.integers(0, 7, 1500)
    stream = TargetStream(counted, np.arange(20), torch.device("cpu"), target_block=1)
    seen = np.zeros(1500, dtype=int)
    for one, targets, block in stream.targets_by_group(group):
        assert (group[targets] == one).all()
        np.testing.assert_array_equal(block[:, : len(targets)].numpy(), values[:, targets])
        assert float(block[:, len(targets) :].abs().sum()) == 0
        assert block.shape[1] == CPU_WIDTH
        seen[targets] += 1
    assert (seen == 1).all()
    assert counted.n_read == values.size


def test_a_fit_reads_the_responses_once_to_choose_and_once_to_predict(world: Any) -> None:
    counted: Any = CountedReads(world.responses)
    fit = fit_ridge(world.dual, counted, world.folds, [0.01, 1.0, 100.0])
    assert len(set(fit.alpha_index)) == 3
    assert counted.n_read == 2 * world.responses.size


@pytest.mark.parametrize("selection", ["squared_error", "correlation"])
def test_fractions_in_any_order_and_company(world_factory: Any, selection: Any) -> None:
    made = world_factory(12, 700, seed=2)
    order = np.random.default_rng(0).permutation(700)
    fractions = (0.1, 0.3, 0.6, 1.0)
    together, moved, alone = (
        fit_fractional(made.primal, Y, made.folds, fractions, selection=selection)
        for Y in (made.responses, made.responses[:, order], made.responses[:, :5])
    )
    assert moved.test_predictions.tobytes() == together.test_predictions[:, order].tobytes()
    assert moved.alphas.tobytes() == together.alphas[order].tobytes()
    assert alone.test_predictions.tobytes() == together.test_predictions[:, :5].tobytes()
