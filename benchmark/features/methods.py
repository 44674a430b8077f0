# SPDX-License-Identifier: Apache-2.0
"""The names of the attribution methods, and what a user may ask for. Importing this module does not import torch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from voxelboard.benchmark.errors import unknown_name

Group = Literal["plain", "path", "erasure"]
ALL = "attributions"


@dataclass(frozen=True)
class Method:
    """One way to explain a prediction.

    Attributes
    ----------
    group : the computation that gives it.
    first_layer : None for one row of ten scores a word; else the number of the first layer of its table.
    """

    group: Group
    first_layer: int | None = None


METHODS: Mapping[str, Method] = {
    "activations": Method("plain", 0),
    "gradient_norm": Method("plain"),
    "gradient_x_input_l2": Method("plain"),
    "gradient_x_input_signed": Method("plain"),
    "gradient_x_input_absolute": Method("plain"),
    "integrated_gradients": Method("path"),
    "erasure_mask": Method("erasure"),
    "erasure_delete": Method("erasure"),
    "erasure_zero": Method("erasure"),
    "attention": Method("plain", 1),
    "conductance": Method("path", 0),
}


def choose_methods(names: Iterable[str]) -> tuple[str, ...]:
    """The methods called ``names``, in the order of ``METHODS``; ``attributions`` stands for all of them.

    Activations, to which the others are compared, are always among them.

    Raises
    ------
    UserError
        for an unknown name.
    """
    asked = set(names)
    for name in asked:
        if name not in METHODS and name != ALL:
            raise unknown_name("--features", name, (*METHODS, ALL))
    return tuple(name for name in METHODS if name in asked | {"activations"} or ALL in asked)
