# SPDX-License-Identifier: Apache-2.0
"""How large the models of a study are and how long they train: the same for every version of the corpus."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from voxelboard.benchmark.errors import unknown_name

Architecture = Literal["lstm", "gpt2"]
ARCHITECTURES: tuple[Architecture, ...] = ("lstm", "gpt2")


@dataclass(frozen=True)
class TrainingPreset:
    """All that determines a training run but the corpus and the seed.

    Attributes
    ----------
    vocabulary : tokens of the byte-level BPE that all versions share, the tag words not counted.
    context : tokens of a window. GPT-2 has as many positions.
    tokens : budget of a run; a corpus that has fewer is read again.
    batch, accumulation : windows in a forward pass, passes in a step.
    learning_rate : peak; warmed up over ``warm_up`` of the steps, then a cosine to 0.
    precision : of the forward pass where there is a GPU; a CPU uses float32.
    width, layers, heads : by architecture; the LSTM has no heads.
    initializer : standard deviation of the weights at the start (of the LSTM: of its embeddings).
    validation_windows : on which the loss is measured, ``measurements`` times.
    """

    name: str
    vocabulary: int
    context: int
    tokens: int
    batch: int
    accumulation: int
    learning_rate: float
    width: Mapping[Architecture, int]
    layers: Mapping[Architecture, int]
    heads: int
    precision: Literal["float32", "bfloat16"] = "float32"
    initializer: float = 0.02
    dropout: float = 0.1
    weight_decay: float = 0.01
    warm_up: float = 0.05
    validation_windows: int = 64
    measurements: int = 8
    checkpoints: int = 4

    @property
    def tokens_per_step(self) -> int:
        return self.context * self.batch * self.accumulation

    @property
    def steps(self) -> int:
        return max(1, self.tokens // self.tokens_per_step)


PRESETS: dict[str, TrainingPreset] = {
    # seconds: for tests
    "tiny": TrainingPreset(
        name="tiny",
        vocabulary=400,
        context=32,
        tokens=32 * 8 * 30,
        batch=8,
        accumulation=1,
        learning_rate=2e-2,
        initializer=0.1,
        width={"lstm": 16, "gpt2": 16},
        layers={"lstm": 1, "gpt2": 1},
        heads=2,
        dropout=0.0,
        validation_windows=16,
        measurements=3,
        checkpoints=3,
    ),
    # ten seconds a model on one core: .3 million parameters. One window a step and a wide start: at 250,000 tokens the
    # loss of GPT-2 is 5.47 nats, with four windows a step and a start of .02 it is 6.20.
    "small": TrainingPreset(
        name="small",
        vocabulary=2048,
        context=256,
        tokens=120_000,
        batch=1,
        accumulation=1,
        learning_rate=6e-3,
        initializer=0.1,
        width={"lstm": 96, "gpt2": 64},
        layers={"lstm": 2, "gpt2": 3},
        heads=4,
        dropout=0.0,
        validation_windows=24,
        measurements=5,
    ),
    # GPT-2-small (Radford et al. 2019) and an LSTM of its width, for a GPU; the token budget is about that of a 400 MB corpus
    "full": TrainingPreset(
        name="full",
        vocabulary=50_000,
        context=1024,
        tokens=100_000_000,
        batch=8,
        accumulation=8,
        learning_rate=6e-4,
        width={"lstm": 768, "gpt2": 768},
        layers={"lstm": 2, "gpt2": 12},
        heads=12,
        precision="bfloat16",
        weight_decay=0.1,
        measurements=40,
        checkpoints=40,
    ),
}


def load_preset(name: str) -> TrainingPreset:
    """The preset of a name; raises UserError for an unknown one."""
    if name not in PRESETS:
        raise unknown_name("training preset", name, PRESETS)
    return PRESETS[name]


def model_config(preset: TrainingPreset, architecture: Architecture, n_vocabulary: int, end: int) -> Any:
    """The Transformers configuration of a model; ``end`` is the id of the token between passages."""
    if architecture == "lstm":
        from voxelboard.benchmark.models.recurrent import LSTMConfig, register

        register()
        return LSTMConfig(
            vocab_size=n_vocabulary,
            hidden_size=preset.width["lstm"],
            num_hidden_layers=preset.layers["lstm"],
            dropout=preset.dropout,
            initializer_range=preset.initializer,
            bos_token_id=end,
            eos_token_id=end,
        )
    if architecture == "gpt2":
        from transformers import GPT2Config

        return GPT2Config(
            vocab_size=n_vocabulary,
            n_positions=preset.context,
            n_embd=preset.width["gpt2"],
            n_layer=preset.layers["gpt2"],
            n_head=preset.heads,
            resid_pdrop=preset.dropout,
            embd_pdrop=preset.dropout,
            attn_pdrop=preset.dropout,
            initializer_range=preset.initializer,
            bos_token_id=end,
            eos_token_id=end,
            use_cache=False,
        )
    raise unknown_name("architecture", architecture, ARCHITECTURES)
