# SPDX-License-Identifier: Apache-2.0
"""The work of the task captions."""

from collections.abc import Sequence

from voxelboard.benchmark.encoding.memory import ALLOWANCE
from voxelboard.benchmark.protocol import Protocol
from voxelboard.benchmark.readers.captions_data import CaptionsData
from voxelboard.benchmark.stimuli.caption_controls import TEXT_CONTROLS
from voxelboard.benchmark.tasks.work import (
    DESIGNS,
    FLOAT32,
    FLOAT64,
    TOKENS_PER_WORD,
    Fit,
    ModelSize,
    Work,
    kept_bytes,
    memory_of,
    voxel_bytes,
)

_ONE_TABLE = ("confounds", "oracle")  # rows that read nothing


def caption_work(
    data: CaptionsData, subjects: Sequence[str], size: ModelSize, protocol: Protocol, *, on_gpu: bool
) -> Work:
    """All layers of a model and its twins, raw and unique, each subject by itself; controls and RSA beside."""
    policy = protocol.captions
    counted = {subject: data.n_voxels(subject) + protocol.score.noise_brain_voxels for subject in subjects}
    n_train, n_test = max(len(data.train_ids(subject)) for subject in subjects), len(data.test_ids)
    fits = [Fit(n_train, n_test, size.n_features, n_voxels) for n_voxels in counted.values()]
    largest = max(fits, key=lambda fit: fit.n_targets)
    is_read = size.row not in _ONE_TABLE
    text_controls = sum(name in TEXT_CONTROLS for name in policy.controls) if not size.row else 0
    # controls with whole captions, fractional ridge twice, contrasts; from brains to embeddings for every row
    beside = len(policy.controls) + 4 if not size.row else 0
    n_fits = DESIGNS * size.n_layers * size.n_models + beside + 1
    backwards = [Fit(fit.n_train, fit.n_test, fit.n_targets, fit.n_columns).flops(protocol) for fit in fits]
    n_sets = (n_train + n_test) // policy.set_size
    rdms = 2.0 * n_sets * policy.set_size**2 * (size.n_layers + beside) * size.n_features
    brains = 2.0 * n_sets * policy.set_size**2
    memory = memory_of(largest, size, protocol, 1, on_gpu=on_gpu)
    n_images = n_test + sum(len(data.train_ids(subject)) for subject in data.subjects)
    images = FLOAT32 * n_images * size.n_features
    responses = FLOAT32 * (n_train + data.n_repeats * n_test)
    return Work(
        tokens=TOKENS_PER_WORD * data.n_words() * (size.n_models + text_controls) if is_read else 0.0,
        flops=sum(n_fits * fit.flops(protocol) + rdms + brains * fit.n_targets for fit in fits) + sum(backwards),
        n_fits=n_fits * len(subjects),
        response_bytes=sum(responses * fit.n_targets for fit in fits)
        + sum(FLOAT32 * data.n_repeats * n_test * data.n_voxels(subject) for subject in data.subjects),
        # responses as read beside those that are fitted, layers and controls of all images, RDMs of the sets
        host_bytes=memory.host
        + round(ALLOWANCE * (responses * largest.n_targets + (2 + text_controls) * images))
        + kept_bytes(n_test, largest.n_targets, 3 * size.n_models + 4)
        + FLOAT64 * n_sets * policy.set_size**2 // 2 * (len(data.scored_rois) + size.n_layers),
        device_bytes=memory.device,
        feature_bytes=size.n_layers * images * (size.n_models + text_controls) if is_read else 0,
        voxel_bytes=voxel_bytes(n_test, sum(data.n_voxels(subject) for subject in subjects), protocol),
    )
