# SPDX-License-Identifier: Apache-2.0
"""How large the models of a study are and how long they train: the same for every version of the corpus."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from voxelboard.benchmark.errors import unknown_name

Architecture = Literal["lstm", "gpt2"]
ARCHITECTURES: tuple[Architecture, ...] = ("lstm", "gpt2")


@dataclass(frozen=True)
class Shape:
    """Size of one architecture and how it is started and moved.

    width, layers : of the states. heads : of attention; 0 for the LSTM.
    learning_rate : peak; warmed up over ``warm_up`` of the steps, then a cosine to 0.
    initializer : standard deviation of the weights at the start; of the LSTM only of its embeddings.
    tied : whether embeddings and output share their weights.
    """

    width: int
    layers: int
    learning_rate: float
    initializer: float
    heads: int = 0
    tied: bool = True


@dataclass(frozen=True)
class TrainingPreset:
    """All that determines a training run but the corpus and the seed.

    Attributes
    ----------
    shapes : of the architectures.
    vocabulary : tokens of the byte-level BPE that all versions share, the tag words not counted.
    context : tokens of a window. GPT-2 has as many positions.
    tokens : budget of a run; a corpus that has fewer is read again.
    batch, accumulation : windows in a forward pass, passes in a step.
    precision : of the forward pass where there is a GPU; a CPU uses float32.
    momentum : first beta of AdamW.
    validation_windows : on which the loss is measured, ``measurements`` times.
    """

    name: str
    shapes: Mapping[Architecture, Shape]
    vocabulary: int
    context: int
    tokens: int
    batch: int = 1
    accumulation: int = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    momentum: float = 0.9
    dropout: float = 0.0
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
        shapes={"lstm": Shape(16, 1, 2e-2, 0.1), "gpt2": Shape(16, 1, 2e-2, 0.1, heads=2)},
        vocabulary=400,
        context=32,
        tokens=32 * 8 * 30,
        batch=8,
        validation_windows=16,
        measurements=3,
        checkpoints=3,
    ),
    # a quarter to half a minute a model on one core. Chosen on the validation loss of the original corpus alone, see
    # docs/ablation-study.md: one LSTM layer learns more of so few tokens than two, untied embeddings more than tied ones.
    "small": TrainingPreset(
        name="small",
        shapes={
            "lstm": Shape(96, 1, 2.5e-2, 0.3),
            "gpt2": Shape(64, 2, 8e-3, 0.1, heads=4, tied=False),
        },
        vocabulary=1024,
        context=256,
        tokens=500_000,
        momentum=0.8,
        validation_windows=24,
        measurements=10,
    ),
    # GPT-2-small (Radford et al. 2019) and an LSTM of its width, for a GPU; the token budget is about that of a 400 MB corpus
    "full": TrainingPreset(
        name="full",
        shapes={"lstm": Shape(768, 2, 6e-4, 0.02), "gpt2": Shape(768, 12, 6e-4, 0.02, heads=12)},
        vocabulary=50_000,
        context=1024,
        tokens=100_000_000,
        batch=8,
        accumulation=8,
        precision="bfloat16",
        dropout=0.1,
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
    if architecture not in ARCHITECTURES:
        raise unknown_name("architecture", architecture, ARCHITECTURES)
    shape = preset.shapes[architecture]
    common: dict[str, Any] = {
        "vocab_size": n_vocabulary,
        "initializer_range": shape.initializer,
        "tie_word_embeddings": shape.tied,
        "bos_token_id": end,
        "eos_token_id": end,
    }
    if architecture == "lstm":
        from voxelboard.benchmark.models.recurrent import LSTMConfig, register

        register()
        return LSTMConfig(hidden_size=shape.width, num_hidden_layers=shape.layers, dropout=preset.dropout, **common)
    from transformers import GPT2Config

    return GPT2Config(
        n_positions=preset.context,
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=shape.heads,
        resid_pdrop=preset.dropout,
        embd_pdrop=preset.dropout,
        attn_pdrop=preset.dropout,
        use_cache=False,
        **common,
    )
