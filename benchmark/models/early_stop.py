# SPDX-License-Identifier: Apache-2.0
"""The first layers of a model without running the others: the pass ends at the input of the first block not needed."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn


class _Reached(Exception):
    """The last block that is needed has run: no error, it ends a forward pass."""


def lists_of_blocks(module: nn.Module, n_layers: int) -> list[nn.ModuleList]:
    """Lists that may hold the blocks whose inputs are the states of layers 0, 1, ...; the outer ones first."""
    return [part for part in module.modules() if isinstance(part, nn.ModuleList) and len(part) == n_layers - 1]


def run_up_to(module: nn.Module, blocks: nn.ModuleList, last_layer: int, inputs: Mapping[str, Any]) -> list[Tensor]:
    """States of layers 0 .. last_layer, ``last_layer < len(blocks)``: the inputs of the blocks 0 .. last_layer.

    Block ``last_layer`` and those after it do not run. The hooks are gone when this returns.
    """
    states: list[Tensor] = []

    def read(_: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        states.append(args[0] if args else kwargs["hidden_states"])
        if len(states) > last_layer:
            raise _Reached

    handles = [block.register_forward_pre_hook(read, with_kwargs=True) for block in blocks[: last_layer + 1]]
    try:
        module(**inputs)
    except _Reached:
        return states
    finally:
        for handle in handles:
            handle.remove()
    raise RuntimeError(f"{type(module).__name__} never reached its block {last_layer}")
