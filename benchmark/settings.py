# SPDX-License-Identifier: Apache-2.0
"""How a measurement runs. Importing this module does not import torch."""

from dataclasses import dataclass
from typing import Literal

from voxelboard.benchmark.protocol import Protocol


@dataclass(frozen=True)
class Settings:
    """How cells are run; nothing but the protocol may change a score.

    Attributes
    ----------
    protocol : the measurement.
    device : ``auto`` (a GPU when there is one), ``cpu``, ``cuda`` or ``cuda:N``.
    dtype : overrides that of the submission; None keeps it.
    batch_size : texts in a forward pass, or ``auto``.
    offline : nothing is downloaded.
    fresh : stored features are computed again.
    limit : train on the first ``limit`` segments of each fold only; such records are partial and never ranked.
    fold : of the task narrative: score this outer fold alone (from 0), and the headline alone; partial, to check a record.
    features : of the task narrative: attribution methods to encode beside the states, or ``attributions`` for all.
    allow_remote_code : the command line's half of the double opt-in.
    """

    protocol: Protocol
    device: str = "auto"
    dtype: str | None = None
    batch_size: int | Literal["auto"] = "auto"
    offline: bool = False
    fresh: bool = False
    limit: int | None = None
    allow_remote_code: bool = False
    features: tuple[str, ...] = ()
    fold: int | None = None

    @property
    def partial(self) -> bool:
        """Whether the records are of a part of the data."""
        return self.limit is not None or self.fold is not None
