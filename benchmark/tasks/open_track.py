# SPDX-License-Identifier: Apache-2.0
"""The open track: an entry commits to its layer, context or pooling before it is scored, and is ranked in a table of its own.

What it does not commit to is the protocol's. The analysis is the same, so is the protocol that the record is stamped with;
what was committed stands in ``model.committed``.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.protocol import ContextPolicy
from voxelboard.benchmark.records import Estimate, LayerProfile
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import Submission
from voxelboard.benchmark.tasks.base import CellResult, merged_checks

Features = Mapping[str, NDArray[np.float32]]  # story -> (n_layers, n_trs, n_features)

# Loaders whose words have tokens that a pooling can choose among, and a context that can be cut.
_TOKENS = ("causal", "masked", "seq2seq")
_CONTEXT = (*_TOKENS, "sentence")


def committed_settings(submission: Submission, settings: Settings) -> Settings:
    """The settings under which a submission's words are read; as given for the fixed track.

    ``context_words: n`` lets a word see between half of ``n`` and ``n`` preceding words, in chunks as the protocol does.

    Raises
    ------
    UserError
        for a commitment that this kind of model cannot keep.
    """
    committed = submission.committed
    if committed is None:
        return settings
    loader = submission.model.loader
    for key, value, able in (
        ("pooling", committed.pooling, _TOKENS),
        ("context_words", committed.context_words, _CONTEXT),
    ):
        if value is not None and loader not in able:
            raise UserError(
                f"{submission.label}: committed.{key} means nothing for loader {loader!r}",
                f"leave it out; it is for {', '.join(able)}",
            )
    protocol = settings.protocol
    if committed.context_words is not None:
        protocol = replace(protocol, context=ContextPolicy(stride_words=(committed.context_words + 1) // 2))
    if committed.pooling is not None:
        protocol = replace(protocol, design=replace(protocol.design, token_pooling=committed.pooling))
    return replace(settings, protocol=protocol)


def committed_layer(submission: Submission, n_layers: int) -> int | None:
    """The one layer that is scored, or None; raises UserError when the model has no such layer."""
    layer = None if submission.committed is None else submission.committed.layer
    if layer is not None and layer >= n_layers:
        raise UserError(
            f"{submission.label}: committed.layer is {layer}, but the model has the layers 0 to {n_layers - 1}"
        )
    return layer


def only_layer(features: Features, layer: int | None) -> Features:
    """The features of one layer, still with a layer axis; None keeps all."""
    if layer is None:
        return features
    return {name: table[layer : layer + 1] for name, table in features.items()}


def only_deviation(deviation: NDArray[np.float32] | None, layer: int | None) -> NDArray[np.float32] | None:
    """The receipt's deviations (n_layers, n_trs_read, n_features) of one layer, still with a layer axis."""
    return deviation if deviation is None or layer is None else deviation[layer : layer + 1]


def named_by_layer(result: CellResult, layer: int | None, n_layers: int) -> CellResult:
    """A cell that was scored on one layer alone, with that layer's own number."""
    if layer is None:
        return result
    profiles = {roi: _whole_profile(profile, layer, n_layers) for roi, profile in result.layers.items()}
    fields = {} if result.checks.main_layer is None else {"main_layer": layer}
    scores = {name: _renamed(estimate, layer) for name, estimate in result.scores.items()}
    by_roi = {roi: {n: _renamed(e, layer) for n, e in found.items()} for roi, found in result.by_roi.items()}
    checks = merged_checks(result.checks, fields)
    return replace(result, layers=profiles, checks=checks, scores=scores, by_roi=by_roi)


def _renamed(estimate: Estimate, layer: int) -> Estimate:
    return replace(estimate, estimator=estimate.estimator.replace("layer 0,", f"layer {layer},"))


def _whole_profile(profile: LayerProfile, layer: int, n_layers: int) -> LayerProfile:
    (only,) = profile.test
    nothing = Estimate(
        estimate=None, estimator=only.estimator, n=0, unit=only.unit, reason=f"the entry committed to layer {layer}"
    )
    at = range(n_layers)
    return LayerProfile(
        chosen=tuple(layer for _ in profile.chosen),
        inner=tuple(profile.inner[0] if k == layer else None for k in at),
        test=tuple(only if k == layer else nothing for k in at),
    )
