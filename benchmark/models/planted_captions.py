# SPDX-License-Identifier: Apache-2.0
"""Models that read captions of the simulated images with a known fidelity: the planted models of the task captions.

They see nothing but the text. A single word gives them its meaning; a sentence also who does what to whom; a scrambled
sentence what a reader would make of it.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.models.base import ModelIdentity, Progress
from voxelboard.benchmark.models.simulated import PlantedModel
from voxelboard.benchmark.protocol import ContextPolicy, hash_json
from voxelboard.benchmark.stimuli.caption_grammar import read_caption
from voxelboard.benchmark.stimuli.caption_meaning import SPACES, WIDTHS, meanings
from voxelboard.benchmark.stimuli.stories import Story

FloatArray = NDArray[np.float64]

# Where along the layers a space is strongest, and how broadly: words early, whole captions late.
_PROFILE = {"category": (0.2, 0.4), "word": (0.3, 0.4), "caption": (0.8, 0.3)}
# Which fidelity of the planted model's id a space has.
_KNOWN_AS = {"category": "lex", "word": "lex", "caption": "sem"}
# Errors of the five captions of an image are independent: their mean carries a fifth of this variance.
_ERROR_POWER = 5.0
_FORM_FEATURES = 2
_JUNK_GAIN = 0.15
_JUNK = "junk"


class PlantedCaptionModel:
    """Reads texts: ``sqrt(q)`` of what they mean and ``sqrt(1 - q)`` of an error of the text's own, mixed into ``width``.

    With random weights it is its own untrained twin: it knows the length of a text, and nothing that it says.
    """

    def __init__(self, base: PlantedModel) -> None:
        """``base`` names fidelities, layers, width and seed, as for the simulated stories."""
        self.n_layers, self.n_features = base.n_layers, base.n_features
        self._fidelity = {space: base.fidelity[_KNOWN_AS[space]] for space in SPACES}
        self._trained = base.identity.weights == "pretrained"
        self._seed = base.identity.seed
        rng = np.random.default_rng([self._seed, 51 if self._trained else 52])
        self._mixing = {
            space: rng.standard_normal((WIDTHS[space], self.n_features)) / np.sqrt(WIDTHS[space]) for space in SPACES
        }
        self._form = rng.standard_normal((self.n_layers, _FORM_FEATURES, self.n_features))
        self._bias = rng.standard_normal((self.n_layers, self.n_features))
        identity = base.identity
        self.identity = ModelIdentity(
            loader="simulated",
            model_id=identity.model_id,
            revision=hash_json({"captions": 1, "revision": identity.revision}),
            weights_sha256=hash_json({"captions": 1, "weights": identity.weights_sha256}),
            tokenizer_sha256=identity.tokenizer_sha256,
            dtype="float64",
            n_parameters=sum(table.size for table in self._mixing.values()) + self._form.size + self._bias.size,
            max_tokens=None,
            weights=identity.weights,
            seed=identity.seed,
        )

    def read_texts(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """(n_layers, n_texts, n_features) float32."""
        states = self._read(texts) if self._trained else self._read_form(texts)
        if progress is not None:
            progress(len(texts), len(texts))
        return states.astype(np.float32)

    def states(
        self,
        story: Story,
        context: ContextPolicy,  # noqa: ARG002 - refused whatever it is
        progress: Progress | None = None,  # noqa: ARG002
    ) -> NDArray[np.float32]:
        """Stories are for :class:`PlantedModel`: raises UserError."""
        raise UserError(f"{self.identity.model_id} reads captions here, not the story {story.name!r}")

    def _read(self, texts: Sequence[str]) -> FloatArray:
        said = meanings([read_caption(text) for text in texts])
        known, noise = {}, self._noise(texts)
        for space in SPACES:
            q = self._fidelity[space]
            clean = said[space] / np.sqrt(np.mean(_typical(space) ** 2))
            error = np.sqrt(_ERROR_POWER) * noise[space]
            known[space] = (np.sqrt(q) * clean + np.sqrt(1 - q) * error) @ self._mixing[space]
        layers = []
        for layer in range(self.n_layers):
            x = layer / max(self.n_layers - 1, 1)
            gains = {space: np.exp(-0.5 * ((x - peak) / sd) ** 2) for space, (peak, sd) in _PROFILE.items()}
            content = sum(gains[space] * known[space] for space in SPACES)
            layers.append(content + _JUNK_GAIN * noise[_JUNK])
        return np.stack(layers)

    def _read_form(self, texts: Sequence[str]) -> FloatArray:
        form = np.array([[len(text.split()) / 10, len(text) / 50] for text in texts])
        junk = self._noise(texts)[_JUNK]
        seen = [np.tanh(form @ self._form[layer] + self._bias[layer]) for layer in range(self.n_layers)]
        return np.stack(seen) + _JUNK_GAIN * junk

    def _noise(self, texts: Sequence[str]) -> dict[str, FloatArray]:
        """Space -> (n_texts, width): what a model gets wrong of a text, the same whenever it reads that text."""
        widths = {**WIDTHS, _JUNK: self.n_features}
        table = np.empty((len(texts), sum(widths.values())))
        for row, text in enumerate(texts):
            key = np.frombuffer(hashlib.sha256(f"{self._seed}|{text}".encode()).digest()[:16], "<u4")
            np.random.Generator(np.random.PCG64(key)).standard_normal(out=table[row])
        stops = np.cumsum(list(widths.values()))[:-1]
        return dict(zip(widths, np.split(table, stops, axis=1), strict=True))


def _typical(space: str) -> FloatArray:
    """What a usual caption has in a space: the unit of its meaning."""
    usual = read_caption("A small red dog chases two large blue cats in the park.")
    return meanings([usual])[space]
