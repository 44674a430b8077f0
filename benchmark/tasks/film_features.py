# SPDX-License-Identifier: Apache-2.0
"""Where the features of an analysis come from: a text model, a model that sees or hears, released or one's own arrays."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError, unknown_name
from voxelboard.benchmark.features.annotation_features import annotation_features
from voxelboard.benchmark.models.multimodal import MediaModel, load_media_model
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.readers.ds005531 import Ds005531
from voxelboard.benchmark.revision import resolved_revision
from voxelboard.benchmark.sources import build_model
from voxelboard.benchmark.stimuli.annotations import Run
from voxelboard.benchmark.stimuli.media import read_frames, read_sound
from voxelboard.benchmark.submission import Submission, load_submission
from voxelboard.benchmark.tasks.film_config import Feature, Media, resolve

if TYPE_CHECKING:
    from voxelboard.benchmark.tasks.film_analysis import Analysis

LayerTable = Mapping[str, NDArray[np.floating]]  # run -> (n_trs, n_features)
STAGE_VERSION = 1  # of the features of frames and sound in the store


def feature_key(feature: Feature, analysis: "Analysis") -> dict[str, Any]:
    """Everything that determines a feature space, without loading a model's weights."""
    key: dict[str, Any] = {"feature": feature.model_dump(mode="json", exclude={"layers"})}
    if feature.model is not None:
        key["revision"] = resolved_revision(_submission(feature, analysis))
    if feature.arrays is not None:
        paths = [_array_path(feature, run, 0, analysis) for run in analysis.data.runs]
        key["files"] = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths if path.is_file()]
    return key


def feature_layers(feature: Feature, analysis: "Analysis") -> int:
    """How many layers a feature has; one for arrays and released features."""
    if feature.model is not None:
        return build_model(_submission(feature, analysis), analysis.data, analysis.settings, analysis.device).n_layers
    if feature.media is not None:
        return len(_media_layers(feature, feature.media, next(iter(analysis.data.runs.values())), analysis))
    return 1


def load_layer(feature: Feature, layer: int, analysis: "Analysis") -> dict[str, NDArray[np.floating]]:
    """Run -> (n_trs, n_features) of one layer.

    Raises
    ------
    UserError
        for a layer or level that is not there.
    MissingPrerequisite, DataError
        for files that are not there or have another number of seconds than the run.
    """
    runs = analysis.data.runs
    if feature.arrays is not None:
        return {name: _read_array(_array_path(feature, name, layer, analysis), run) for name, run in runs.items()}
    if feature.released is not None:
        if not isinstance(analysis.data, Ds005531):
            raise UserError(f"{analysis.data.name} has no released features", "give model: or arrays: instead")
        data, level = analysis.data, feature.level or ""
        return {name: data.released_features(name, level, feature.released) for name in runs}
    if feature.media is not None:
        found = {name: _media_layers(feature, feature.media, run, analysis) for name, run in runs.items()}
        return {name: layers[_known(layer, len(layers), feature)] for name, layers in found.items()}
    level = feature.level or ""
    there = next(iter(runs.values())).annotations
    if level not in there:
        raise unknown_name("level", level, there)
    model = build_model(_submission(feature, analysis), analysis.data, analysis.settings, analysis.device)
    tables = annotation_features(
        model, runs, [level], analysis.store, window_s=feature.window_s, annotators=feature.annotators
    )[level]
    return {name: table[_known(layer, len(table), feature)] for name, table in tables.items()}


def _known(layer: int, n_layers: int, feature: Feature) -> int:
    if layer >= n_layers:
        raise UserError(f"feature {feature.name} has the layers 0 to {n_layers - 1}, got {layer}")
    return layer


def _submission(feature: Feature, analysis: "Analysis") -> Submission:
    named = feature.model or ""
    local = resolve(analysis.base, named)
    return load_submission(local if local.exists() else named)


def _array_path(feature: Feature, run: str, layer: int, analysis: "Analysis") -> Path:
    return resolve(analysis.base, (feature.arrays or "").replace("{run}", run).replace("{layer}", str(layer)))


def _read_array(path: Path, run: Run) -> NDArray[np.floating]:
    if not path.is_file():
        raise MissingPrerequisite(f"there are no features at {path}", "one .npy file a run: (n_seconds, n_features)")
    try:
        table = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise DataError(f"{path.name} is not an array of numbers: {error}") from error
    if table.ndim != 2 or len(table) != run.n_trs or table.dtype.kind not in "fiu":
        raise DataError(
            f"{path.name}: {table.dtype} of shape {table.shape}, expected numbers ({run.n_trs}, n_features) for {run.name}"
        )
    return cast("NDArray[np.floating]", table.astype(np.float32))


def _media_layers(feature: Feature, media: Media, run: Run, analysis: "Analysis") -> list[NDArray[np.float32]]:
    """Every layer (n_trs, n_features) of one run, through the store."""
    folder = resolve(analysis.base, media.model)
    spec = ModelSpec(loader="masked", source="local", path=folder)
    model: list[MediaModel] = []

    def loaded() -> MediaModel:
        if not model:
            model.append(load_media_model(spec, device=analysis.device, pooling=media.pooling, offline=True))
        return model[0]

    source = resolve(analysis.base, (media.frames or media.sound or "").replace("{run}", run.name))
    key = {
        "stage": "media",
        "stage_version": STAGE_VERSION,
        "model": loaded().weights_sha256,
        "media": media.model_dump(mode="json"),
        "level": feature.level,
        "run": run.sha256,
        "source": [source.name, source.stat().st_mtime_ns if source.exists() else 0],
    }
    n_layers = int(
        analysis.store.get(
            {**key, "layer": "n"},
            lambda: np.array([[len(_states(loaded(), feature, media, run, source))]], dtype=np.float32),
        )[0, 0]
    )
    states: list[list[NDArray[np.float32]]] = []

    def layer_of(layer: int) -> NDArray[np.float32]:
        if not states:
            states.append(_states(loaded(), feature, media, run, source))
        return states[0][layer]

    return [analysis.store.get({**key, "layer": layer}, partial(layer_of, layer)) for layer in range(n_layers)]


def _states(model: MediaModel, feature: Feature, media: Media, run: Run, source: Path) -> list[NDArray[np.float32]]:
    n_seconds = run.seconds[-1] + 1
    if media.sound is not None:
        layers = model.read_sound(read_sound(source), int(n_seconds))
    elif model.kind == "vision":
        layers = model.read_frames(read_frames(source, media.fps).pairs(int(n_seconds)))
    else:
        if feature.level is None:
            raise UserError(f"feature {feature.name}: a model of pictures and text needs a level of annotation")
        texts = run.annotations[feature.level].split(feature.annotators).windows(feature.window_s)
        layers = model.read_frames_and_texts(
            read_frames(source, media.fps).pairs(int(n_seconds)), [row[: int(n_seconds)] for row in texts]
        )
    return [layer[run.seconds] for layer in layers]
