# SPDX-License-Identifier: Apache-2.0
"""How much work the cells of a model are, counted from sizes before anything is loaded: tokens, operations, bytes.

Nothing here is timed: the runner turns counts into seconds of its machine (``runners/estimates.py``), where they are
checked against measured cells.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from voxelboard.benchmark.encoding.memory import ALLOWANCE, MemoryEstimate, estimate_memory
from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.readers.base import Dataset
from voxelboard.benchmark.readers.cards import list_cards, load_card

TOKENS_PER_WORD: Final = 1.35
FLOAT32, FLOAT64 = 4, 8
DESIGNS: Final = 2  # as they are, and without what confounds can say
EIGEN: Final = 10.0  # operations of a symmetric decomposition, times the cube of its side

# How a word of a story comes to its state: in strided chunks that a causal model reads once, as the last word of a
# prefix of its own, or by itself.
Reading = Literal["strided", "prefixes", "once"]


@dataclass(frozen=True)
class ModelSize:
    """The size of a model.

    Attributes
    ----------
    weight_bytes : as it lies on the device.
    row : name of a row of the harness (``confounds``), empty for a submission.
    max_tokens : longest input, None when unbounded or not known. n_vocabulary : tokens, 0 when not known.
    """

    n_layers: int
    n_features: int
    n_parameters: int
    weight_bytes: int
    n_twins: int
    reading: Reading = "strided"
    row: str = ""
    max_tokens: int | None = None
    n_vocabulary: int = 0

    @property
    def n_models(self) -> int:
        """The model and its untrained twins."""
        return 1 + self.n_twins

    def passes(self, protocol: Protocol) -> float:
        """How often a token of a story goes through the model."""
        stride = protocol.context.stride_words
        return {"strided": 2.0, "prefixes": 1.5 * stride, "once": 1.0}[self.reading]


@dataclass(frozen=True)
class Work:
    """What some cells of one model take.

    Attributes
    ----------
    tokens : that go through the model and its twins, each once a time it is read.
    flops : of fits and tests. n_fits : ridge fits, each of which costs something however small it is.
    response_bytes : float32 responses that are read and prepared.
    host_bytes, device_bytes : peak memory of the fits, the model's weights not among them; 0 on the device without a GPU.
    feature_bytes : float32 features that the store keeps, all layers of the model and its twins.
    voxel_bytes : of the records' arrays by voxel, all subjects together.
    """

    tokens: float
    flops: float
    n_fits: int
    response_bytes: int
    host_bytes: int
    device_bytes: int
    feature_bytes: int
    voxel_bytes: int = 0


class Fit(NamedTuple):
    """The sizes of one ridge."""

    n_train: int
    n_test: int
    n_columns: int
    n_targets: int

    def flops(self, protocol: Protocol) -> float:
        """Cross-validated ridge: a factorisation each inner fold, then a product with the responses for each alpha."""
        policy = protocol.encoding
        width = min(self.n_train, self.n_columns)
        factors = 2.0 * self.n_train * width * self.n_columns + EIGEN * (policy.n_inner_folds + 1) * width**3
        return factors + 2.0 * len(policy.relative_alphas) * self.n_train * width * self.n_targets


def voxel_bytes(n_test: int, n_voxels: int, protocol: Protocol) -> int:
    """What records keep of each voxel in float16: influence of every block, and some thirty values."""
    return n_voxels * 2 * (n_test // protocol.score.inference_block_trs + 30)


def memory_of(fit: Fit, size: ModelSize, protocol: Protocol, n_delays: int, *, on_gpu: bool) -> MemoryEstimate:
    """Peak memory of fitting all layers of a model one after the other."""
    return estimate_memory(
        n_train=fit.n_train,
        n_test=fit.n_test,
        n_features=max(1, fit.n_columns // n_delays),
        n_delays=n_delays,
        n_targets=fit.n_targets,
        n_layers=size.n_layers,
        n_alphas=len(protocol.encoding.relative_alphas),
        n_folds=protocol.encoding.n_inner_folds,
        on_gpu=on_gpu,
    )


def kept_bytes(n_test: int, n_targets: int, n_rows: int) -> int:
    """Predictions of ``n_rows`` rows of a record that are held until a subject is scored."""
    return round(ALLOWANCE * FLOAT32 * n_test * n_targets * n_rows)


def permutation_flops(n_test: int, n_voxels: int, protocol: Protocol) -> float:
    """The test of a subject against chance: a product a draw for voxels, and one for regions."""
    return 4.0 * protocol.diagnostics.n_permutations * n_test * n_voxels


def voxel_counts(data: Dataset, first: int | None = None) -> dict[str, int]:
    """Subject -> voxels, of its card; of one that does not say, ``first``, that of the first subject, stands for all."""
    card = load_card(data.name) if data.name in list_cards() else None
    counted = dict(card.n_voxels) if card is not None else {}
    if not counted:
        return dict.fromkeys(data.subjects, first or 0)
    return {subject: counted.get(subject, max(counted.values())) for subject in data.subjects}


def targets_of(counted: dict[str, int], subjects: Iterable[str], protocol: Protocol) -> int:
    """Voxels of the subjects together, with those of the noise brain."""
    return sum(counted[subject] for subject in subjects) + protocol.score.noise_brain_voxels


def count_words(texts: Sequence[str]) -> int:
    """Words of different texts: equal ones are read once."""
    return sum(len(text.split()) for text in dict.fromkeys(texts))
