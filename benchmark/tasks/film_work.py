# SPDX-License-Identifier: Apache-2.0
"""The work of the task drama."""

from collections.abc import Sequence

from voxelboard.benchmark.encoding.memory import (
    ALLOWANCE,
    BASE_BYTES,
    MemoryEstimate,
    estimate_banded_memory,
    estimate_memory,
)
from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.readers.drama_base import DramaData
from voxelboard.benchmark.tasks.work import (
    DESIGNS,
    FLOAT32,
    FLOAT64,
    TOKENS_PER_WORD,
    Fit,
    ModelSize,
    Work,
    count_words,
    kept_bytes,
    permutation_flops,
    targets_of,
    voxel_bytes,
    voxel_counts,
)

_EIGEN = 3.0  # operations of a decomposition, times the cube of its side
_KEPT_COLUMNS = 0.75  # of all bands together, after those of low rank were compressed
# Rows of the harness that are one table, whatever the level.
ONE_TABLE = ("confounds", "spectral", "cross-subject")
# Rows about which "which level" is no question: no level is left out of their fit.
NOT_BY_LEVEL = ("constant", "context-noise", *ONE_TABLE)


def drama_work(data: DramaData, subjects: Sequence[str], size: ModelSize, protocol: Protocol, *, on_gpu: bool) -> Work:
    """Every level and layer by itself, then searches of band weights over all levels, and without each of them.

    Subjects who choose other layers are searched apart; each is expected to.
    """
    policy, encoding = protocol.drama, protocol.encoding
    ((train, test),) = data.split.folds
    n_train, n_test = (sum(segment.stop - segment.start for segment in part) for part in (train, test))
    counted = voxel_counts(data)
    if not all(counted.values()):
        counted = voxel_counts(data, data.responses(data.subjects[0]).n_voxels)
    n_targets, n_voxels = targets_of(counted, subjects, protocol), sum(counted[subject] for subject in subjects)
    n_levels = 1 if size.row in ONE_TABLE else len(data.levels)
    width = min(size.n_features, policy.n_components, max(1, n_train // policy.trs_per_component))
    one_level = Fit(n_train, n_test, width, n_targets)
    n_fits = DESIGNS * n_levels * size.n_layers * size.n_models
    n_groups = 1 if size.n_layers == 1 else len(subjects)
    n_left_out = n_levels if size.row not in NOT_BY_LEVEL and n_levels > 1 else 0
    # (searches, voxels of all searches): raw and unique of each model, without each level of the model itself
    n_searches = n_groups * (DESIGNS * size.n_models + n_left_out)
    n_searched = n_targets * (DESIGNS * size.n_models + n_left_out)
    n_columns = n_levels * width
    n_folds = len(set(data.inner_folds.values()))
    n_searched_columns = _KEPT_COLUMNS * n_columns
    draw = _EIGEN * n_folds * n_searched_columns**3
    for_targets = 2.0 * n_folds * len(encoding.relative_alphas) * n_searched_columns**2
    # principal axes of all features of a level, wider than what is kept of them
    reducing = n_fits * 2.0 * n_train * size.n_features * min(size.n_features, n_train)
    n_rows = sum(run.n_trs for run in data.runs.values())
    memory = _memory(one_level, n_levels, n_folds, size, protocol, on_gpu=on_gpu)
    return Work(
        tokens=size.n_models * TOKENS_PER_WORD * _words(data, protocol),
        flops=n_fits * one_level.flops(protocol)
        + policy.n_draws * (n_searches * draw + n_searched * for_targets)
        + reducing
        + permutation_flops(n_test, n_voxels, protocol) * (1 + n_levels),
        n_fits=n_fits + n_searches,
        response_bytes=FLOAT32 * n_rows * n_targets,
        host_bytes=memory.host + _beside_bytes(one_level, n_levels, size),
        device_bytes=memory.device,
        feature_bytes=size.n_models * FLOAT32 * n_levels * size.n_layers * n_rows * size.n_features,
        voxel_bytes=voxel_bytes(n_test, n_voxels, protocol),
    )


def _beside_bytes(fit: Fit, n_levels: int, size: ModelSize) -> int:
    """Responses of all subjects beside those of a group, and predictions: raw, unique, joint, and four tables a level."""
    responses = round(ALLOWANCE * FLOAT32 * fit.n_train * fit.n_targets)
    return responses + kept_bytes(fit.n_test, fit.n_targets, (3 + 4 * n_levels) * size.n_models)


def _memory(
    fit: Fit, n_levels: int, n_folds: int, size: ModelSize, protocol: Protocol, *, on_gpu: bool
) -> MemoryEstimate:
    """The most of three: one level while it is reduced, its ridge, and the search over all levels as bands."""
    n_alphas = len(protocol.encoding.relative_alphas)
    reduced = round(ALLOWANCE * FLOAT64 * fit.n_train * 3 * (size.n_features + fit.n_columns))
    responses = BASE_BYTES + round(ALLOWANCE * FLOAT32 * fit.n_train * fit.n_targets)
    reducing = MemoryEstimate(responses, reduced) if on_gpu else MemoryEstimate(responses + reduced, 0)
    alone = estimate_memory(
        n_train=fit.n_train,
        n_test=fit.n_test,
        n_features=fit.n_columns,
        n_delays=1,
        n_targets=fit.n_targets,
        n_alphas=n_alphas,
        n_folds=n_folds,
        on_gpu=on_gpu,
    )
    bands = estimate_banded_memory(
        n_train=fit.n_train,
        n_test=fit.n_test,
        band_columns=[fit.n_columns] * n_levels,
        n_targets=fit.n_targets,
        n_draws=protocol.drama.n_draws,
        n_alphas=n_alphas,
        n_folds=n_folds,
        columns_form=True,
        on_gpu=on_gpu,
    )
    parts = (reducing, alone, bands)
    return MemoryEstimate(max(part.host for part in parts), max(part.device for part in parts))


def _words(data: DramaData, protocol: Protocol) -> int:
    """Words that a model reads: each text of a run once."""
    window = protocol.drama.window_s
    return sum(
        count_words(
            [text for level in data.levels for row in run.annotations[level].windows(window) for text in row if text]
        )
        for run in data.runs.values()
    )
