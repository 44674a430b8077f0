# SPDX-License-Identifier: Apache-2.0
"""Attributions as features: explanations of the next-word prediction at the TRs of a story, through the store.

For each word of a story the model explains what it said of that word before it came: how much each of the ten words before
it contributed (a row of ten), or, for attention, activations and conductance, what every layer holds. Resampled to
TRs and encoded like any feature. Source: Rahimi, Yaghoobzadeh & Daliri 2025, arXiv 2502.14671.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.features.attribution_passes import (
    Tables,
    argmax_targets,
    erasure_pass,
    path_pass,
    plain_pass,
)
from voxelboard.benchmark.features.extract import resample_states
from voxelboard.benchmark.features.methods import METHODS, Group
from voxelboard.benchmark.features.store import FeatureStore
from voxelboard.benchmark.models.contexts import plan_contexts
from voxelboard.benchmark.models.language import LanguageModel
from voxelboard.benchmark.protocol import AttributionPolicy, Protocol
from voxelboard.benchmark.stimuli.stories import Story

Array = NDArray[np.float32]

# Raise it when the code behind the numbers changes: it is part of every key.
STAGE_VERSION = 1

# Called with (what is done, words done in this story, words in this story).
AttributionProgress = Callable[[str, int, int], None]


PASSES = {"plain": plain_pass, "path": path_pass, "erasure": erasure_pass}


@dataclass(frozen=True, eq=False)
class Attributions:
    """All asked methods of all asked stories.

    Attributes
    ----------
    features : method -> story -> (n_layers, n_trs, n_features) float32, undelayed; one layer for rows of ten.
    refused : method -> why this model cannot give it.
    completeness : story -> (1 + n_layers, n_words, 3) relative error, f(x) - f(x') and magnitude of integrated gradients
        (row 0) and of the conductance of each layer; empty when neither was asked for.
    """

    features: Mapping[str, Mapping[str, Array]]
    refused: Mapping[str, str]
    completeness: Mapping[str, Array]


def refusals(lm: LanguageModel, methods: Sequence[str], policy: AttributionPolicy) -> dict[str, str]:
    """Which of the methods this model cannot give, and why."""
    refused = {}
    if "attention" in methods and not lm.n_attention_layers:
        refused["attention"] = f"{lm.identity.model_id} returns no attention weights (a state-space or linear model)"
    for name in methods:
        if METHODS[name].group == "erasure" and name.removeprefix("erasure_") not in policy.erasures:
            refused[name] = "this protocol leaves it out"
    return refused


def attribution_features(
    lm: LanguageModel,
    stories: Mapping[str, Story],
    methods: Sequence[str],
    protocol: Protocol,
    store: FeatureStore,
    progress: AttributionProgress | None = None,
) -> Attributions:
    """Features of every method and story. A story's tables are stored as soon as they are made, so a run resumes.

    Raises
    ------
    UserError
        when none of the methods beside activations can be given.
    DataError
        for a context that is longer than the model accepts.
    InvalidNumbers
        for an attribution that is not finite.
    """
    refused = refusals(lm, methods, protocol.attribution)
    given = [name for name in methods if name not in refused]
    if refused and given == ["activations"]:
        raise UserError(
            "; ".join(refused.values()), "ask for others: " + ", ".join(name for name in METHODS if name not in refused)
        )
    features: dict[str, dict[str, Array]] = {name: {} for name in given}
    completeness = {}
    with_path = any(METHODS[name].group == "path" for name in given)
    for number, story in enumerate(stories.values(), start=1):
        what = f"attributions, story {number}/{len(stories)}"
        tables = _StoryTables(lm, story, protocol, store, what, progress)
        for name in given:
            features[name][story.name] = tables.at_trs(name)
        if with_path:
            completeness[story.name] = tables.of_words("completeness")
    return Attributions(features, refused, completeness)


class _StoryTables:
    """The tables of one story: from the store, or computed group by group."""

    def __init__(
        self,
        lm: LanguageModel,
        story: Story,
        protocol: Protocol,
        store: FeatureStore,
        what: str,
        progress: AttributionProgress | None,
    ) -> None:
        self._lm = lm
        self._story = story
        self._protocol = protocol
        self._store = store
        self._what = what
        self._progress = progress
        self._computed: dict[Group, Tables] = {}

    def at_trs(self, name: str) -> Array:
        """(n_layers, n_trs, n_features) of a method."""
        key = {**self._key(name), "resampling": self._protocol.design.resampling}
        return self._store.get(
            key, lambda: resample_states(self._group(METHODS[name].group)[name], self._story, self._protocol)
        )

    def of_words(self, name: str) -> Array:
        """A table of the path that stays on the clock of the words."""
        return self._store.get(self._key(name), lambda: self._group("path")[name])

    def _group(self, group: Group) -> Tables:
        if group not in self._computed:
            policy = self._protocol.attribution
            contexts = plan_contexts(
                self._story, policy.context_words, self._lm.tokenizer, self._lm.identity.max_tokens
            )
            if policy.target == "argmax":
                contexts = argmax_targets(self._lm, contexts)

            def report(done: int, total: int) -> None:
                """Words done in this group of explanations."""
                if self._progress is not None:
                    self._progress(f"{self._what}, {group}", done, total)

            self._computed[group] = PASSES[group](self._lm, contexts, policy, report)
        return self._computed[group]

    def _key(self, name: str) -> dict[str, object]:
        policy = asdict(self._protocol.attribution)
        del policy["n_draws"]  # of the analysis that comes later
        return {
            "stage": "attributions",
            "stage_version": STAGE_VERSION,
            "method": name,
            "model": asdict(self._lm.identity),
            "story": self._story.sha256,
            "attribution": policy,
        }
