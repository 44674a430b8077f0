# SPDX-License-Identifier: Apache-2.0
"""Planted language models: they read the latents of the simulated stories with a known fidelity.

Their true order is known, so a pipeline can be checked against it. They never see responses.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.models.base import ModelIdentity, Progress
from voxelboard.benchmark.protocol import ContextPolicy, hash_json
from voxelboard.benchmark.stimuli.simulated import ar1, n_columns
from voxelboard.benchmark.stimuli.simulated_drama import content_entries, drama_world
from voxelboard.benchmark.stimuli.stories import Story

FloatArray = NDArray[np.float64]

PLANTED_SPACES = ("lex", "syn", "sem")
# Autocorrelation of what a model gets wrong, as slow as what it should have got right.
_ERROR_AR = {"lex": 0.0, "syn": 0.3, "sem": 0.9}
# Where along the layers a space is strongest, and how broadly.
_PROFILE = {"lex": (0.1, 0.35), "syn": (0.5, 0.3), "sem": (0.7, 0.3)}
_JUNK_SERIES = 8
_JUNK_AR = 0.5
_JUNK_GAIN = 0.15
_MEANING_WIDTH = 0.45  # of the stretch of layers in which a meaning of the simulated drama is strong
_FORM_FEATURES = 3  # of a twin: length, position in the sentence, distance from the story's start
_ID = re.compile(
    r"planted-(?:q(?P<q>[0-9.]+)|lex(?P<lex>[0-9.]+)-syn(?P<syn>[0-9.]+)-sem(?P<sem>[0-9.]+))"
    r"-d(?P<width>\d+)-l(?P<layers>\d+)-s(?P<seed>\d+)"
)


class PlantedModel:
    """A language model made of planted latents and noise; satisfies ``WordModel``.

    Per space, a state carries ``sqrt(q)`` of the latents and ``sqrt(1 - q)`` of autocorrelated noise, mixed into
    ``width`` features by fixed random projections whose gains follow a lex -> syn -> sem profile over the layers.

    With ``weights="random"`` it is its own untrained twin: states hold no content, only random non-linear features of
    the word's length and place (in the sentence and story), and noise.

    The context policy is not applied: the latents are causal integrators with half-lives of 11 and 34 words, shorter
    than the context of protocol v1.

    Parameters
    ----------
    name : the model's id in records.
    fidelity : one q in [0, 1] for all spaces, or space -> q (missing spaces count as 0).
    n_layers, width : at least 1.
    seed : of the projections and of the noise.
    """

    def __init__(
        self,
        name: str,
        fidelity: float | Mapping[str, float],
        n_layers: int = 6,
        width: int = 48,
        seed: int = 0,
        weights: Literal["pretrained", "random"] = "pretrained",
    ) -> None:
        q = {space: float(fidelity) for space in PLANTED_SPACES} if isinstance(fidelity, float | int) else fidelity
        if set(q) - set(PLANTED_SPACES) or not all(0 <= value <= 1 for value in q.values()):
            raise UserError(f"fidelity must map {', '.join(PLANTED_SPACES)} to values between 0 and 1, got {dict(q)}")
        if n_layers < 1 or width < 1 or seed < 0:
            raise UserError(f"a planted model needs layers and features, got l{n_layers} d{width} s{seed}")
        self.fidelity = MappingProxyType({space: float(q.get(space, 0.0)) for space in PLANTED_SPACES})
        self.n_layers = n_layers
        self.n_features = width
        self._seed = seed
        self._trained = weights == "pretrained"
        rng = np.random.default_rng([seed, 1 if self._trained else 2])
        self._mixing = {space: _projection(n_columns(space), width, rng) for space in PLANTED_SPACES}
        self._junk = [_projection(_JUNK_SERIES, width, rng) for _ in range(n_layers)]
        self._form = [_projection(_FORM_FEATURES, width, rng) for _ in range(n_layers)]
        self._bias = rng.standard_normal((n_layers, width))
        self.identity = self._identify(name, weights)

    def states(
        self,
        story: Story,
        context: ContextPolicy,  # noqa: ARG002 - see the class
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """(n_layers, n_words, n_features) float32.

        Raises
        ------
        UserError
            for a story without planted latents: only the simulated data set has them.
        """
        latents = _planted_latents(story)
        rng = np.random.default_rng([self._seed, 3, _number(story.name)])
        states = self._read(latents, rng) if self._trained else self._read_form(story, rng)
        if progress is not None:
            progress(story.n_words, story.n_words)
        return states.astype(np.float32)

    def read_texts(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """(n_layers, n_texts, n_features) float32: what the content words of each text mean, as well as it knows them.

        A word has the same error wherever it stands. Layer by layer other meanings are strong, the first ones early: so
        each level of the simulated drama has a layer of its own. Its untrained twin knows lengths and counts only.
        """
        words = [text.lower().replace(",", " ").replace(";", " ").split() for text in texts]
        junk = np.stack(
            [np.random.default_rng([self._seed, 4, _number(text)]).standard_normal(_JUNK_SERIES) for text in texts]
        )
        layers = [
            self._text_layer(layer, words) + _JUNK_GAIN * junk @ self._junk[layer] for layer in range(self.n_layers)
        ]
        if progress is not None:
            progress(len(texts), len(texts))
        return np.stack(layers).astype(np.float32)

    def _text_layer(self, layer: int, words: list[list[str]]) -> FloatArray:
        if not self._trained:
            form = np.array([[len(text), sum(map(len, text))] for text in words], dtype=np.float64)
            seen: FloatArray = np.tanh(0.3 * np.log1p(form) @ self._form[layer][:2] + 0.5 * self._bias[layer])
            return seen
        content = content_entries()
        rows = [[content[word] for word in text if word in content] for text in words]
        known = self._meanings[[row for text in rows for row in text]]
        counts = np.array([len(row) for row in rows])
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        sums = np.zeros((len(words), known.shape[1]))
        filled = counts > 0
        sums[filled] = np.add.reduceat(known, starts[filled]) / counts[filled, None] if filled.any() else 0.0
        x = layer / max(self.n_layers - 1, 1)
        gains = np.exp(-0.5 * ((x - np.linspace(0, 1, known.shape[1])) / _MEANING_WIDTH) ** 2)
        mixed: FloatArray = (gains * sums) @ self._mixing["lex"][: known.shape[1]]
        return mixed

    @cached_property
    def _meanings(self) -> FloatArray:
        """(n_entries, n_meanings) of the words of the simulated drama, with this model's errors."""
        q = float(np.mean(list(self.fidelity.values())))
        table = drama_world().embeddings
        error = np.random.default_rng([self._seed, 5]).standard_normal(table.shape)
        known: FloatArray = np.sqrt(q) * table + np.sqrt(1 - q) * error
        return known

    def _read(self, latents: Mapping[str, FloatArray], rng: np.random.Generator) -> FloatArray:
        n_words = len(latents["lex"])
        known = {}
        for space in PLANTED_SPACES:
            error = ar1(n_words, n_columns(space), _ERROR_AR[space], rng)
            q = self.fidelity[space]
            known[space] = (np.sqrt(q) * latents[space] + np.sqrt(1 - q) * error) @ self._mixing[space]
        junk = ar1(n_words, _JUNK_SERIES, _JUNK_AR, rng)
        layers = []
        for layer in range(self.n_layers):
            x = layer / max(self.n_layers - 1, 1)
            gains = {space: np.exp(-0.5 * ((x - peak) / sd) ** 2) for space, (peak, sd) in _PROFILE.items()}
            content = sum(gains[space] * known[space] for space in PLANTED_SPACES)
            layers.append(content + _JUNK_GAIN * junk @ self._junk[layer])
        return np.stack(layers)

    def _read_form(self, story: Story, rng: np.random.Generator) -> FloatArray:
        # half gain: mildly non-linear, so that the binned confounds leave little of it (H_u .005 on average)
        form = 0.5 * word_form(story)
        junk = ar1(story.n_words, _JUNK_SERIES, _JUNK_AR, rng)
        layers = []
        for layer in range(self.n_layers):
            seen = np.tanh(form @ self._form[layer] + 0.5 * self._bias[layer])
            layers.append(seen + _JUNK_GAIN * junk @ self._junk[layer])
        return np.stack(layers)

    def _identify(self, name: str, weights: Literal["pretrained", "random"]) -> ModelIdentity:
        constants = {
            "name": name,
            "fidelity": dict(self.fidelity),
            "n_layers": self.n_layers,
            "width": self.n_features,
            "seed": self._seed,
            "weights": weights,
        }
        tables = [*self._mixing.values(), *self._junk, *self._form, self._bias]
        digest = hashlib.sha256()
        for table in tables:
            digest.update(np.ascontiguousarray(table, dtype="<f8").tobytes())
        return ModelIdentity(
            loader="simulated",
            model_id=name,
            revision=hash_json(constants),
            weights_sha256=digest.hexdigest(),
            tokenizer_sha256=hashlib.sha256(b"one token a word").hexdigest(),
            dtype="float64",
            n_parameters=sum(table.size for table in tables),
            max_tokens=None,
            weights=weights,
            seed=self._seed,
        )


class OracleModel:
    """All planted latents of a word, without noise: what the simulated brain can at most learn from words."""

    n_layers = 1
    n_features = sum(n_columns(space) for space in PLANTED_SPACES)

    def __init__(self) -> None:
        self.identity = ModelIdentity(
            loader="simulated",
            model_id="oracle",
            revision=hash_json({"name": "oracle", "spaces": list(PLANTED_SPACES)}),
            weights_sha256="",
            tokenizer_sha256=hashlib.sha256(b"one token a word").hexdigest(),
            dtype="float64",
            n_parameters=0,
            max_tokens=None,
        )

    def states(
        self,
        story: Story,
        context: ContextPolicy,  # noqa: ARG002 - latents have no context
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """(1, n_words, n_features) float32; raises UserError for a story without planted latents."""
        latents = _planted_latents(story)
        if progress is not None:
            progress(story.n_words, story.n_words)
        return np.concatenate([latents[space] for space in PLANTED_SPACES], axis=1)[None].astype(np.float32)


def planted_model(
    model_id: str, weights: Literal["pretrained", "random"] = "pretrained", seed: int | None = None
) -> PlantedModel:
    """Build the planted model that an id names, such as ``planted-q0.9-d48-l6-s1``.

    ``planted-lex0.9-syn0.2-sem0.5-d48-l6-s1`` sets the fidelity of each space. ``seed`` replaces that of the id: it
    is how twins of different seeds are made.

    Raises
    ------
    UserError
        for an id of another form or a fidelity outside 0 to 1.
    """
    match = _ID.fullmatch(model_id)
    hint = "write planted-q0.9-d48-l6-s1 (fidelity, width, layers, seed)"
    if match is None:
        raise UserError(f"{model_id!r} does not name a planted model", hint)
    groups = match.groupdict()
    try:
        q = [float(groups["q"])] * 3 if groups["q"] else [float(groups[space]) for space in PLANTED_SPACES]
    except ValueError:
        raise UserError(f"{model_id!r}: a fidelity is not a number", hint) from None
    return PlantedModel(
        model_id,
        dict(zip(PLANTED_SPACES, q, strict=True)),
        n_layers=int(groups["layers"]),
        width=int(groups["width"]),
        seed=int(groups["seed"]) if seed is None else seed,
        weights=weights,
    )


def word_form(story: Story) -> FloatArray:
    """(n_words, 3) what can be known of a word of the simulated set without knowing words, standardised in the story.

    Letters, log(1 + words before it in the sentence), and exp(-words since the start / 30).
    """
    position = story.annotations["sentence_position"][:, 0]
    letters = np.array([len(word) for word in story.words], dtype=np.float64)
    onset = np.exp(-np.arange(story.n_words) / 30.0)
    form = np.column_stack([letters, np.log1p(position), onset])
    scale = form.std(axis=0)
    standardised: FloatArray = (form - form.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    return standardised


def _planted_latents(story: Story) -> Mapping[str, FloatArray]:
    for space in PLANTED_SPACES:
        table = story.annotations.get(space)
        if table is None or table.shape != (story.n_words, n_columns(space)):
            raise UserError(
                f"story {story.name!r} has no planted latents {space!r}: planted models only read the simulated data set",
                "choose simulated-narrative, or another model",
            )
    return story.annotations


def _projection(n_inputs: int, width: int, rng: np.random.Generator) -> FloatArray:
    return np.asarray(rng.standard_normal((n_inputs, width)) / np.sqrt(n_inputs))


def _number(name: str) -> int:
    """A number for a name that does not depend on the process (``hash`` does)."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
