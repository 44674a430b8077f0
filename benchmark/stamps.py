# SPDX-License-Identifier: Apache-2.0
"""What a record says of the data and the model that it was made from."""

from voxelboard.benchmark.models.base import ModelIdentity
from voxelboard.benchmark.protocol import hash_json
from voxelboard.benchmark.readers.base import NarrativeData, Responses
from voxelboard.benchmark.record_stamps import DatasetStamp, ModelStamp
from voxelboard.benchmark.submission import Submission


def dataset_stamp(
    data: NarrativeData, responses: Responses, *, n_train: int, n_test: int, n_repeats: int
) -> DatasetStamp:
    """Name, version and hashes of the stimuli and of one subject's responses."""
    return DatasetStamp(
        name=data.name,
        version=data.version,
        kind=data.kind,
        ceiling_kind=data.ceiling_kind,
        stimuli_sha256=hash_json({name: data.stories[name].sha256 for name in responses.runs}),
        responses_sha256=responses.sha256(),
        scored_rois=tuple(data.scored_rois),
        n_train=n_train,
        n_test=n_test,
        n_voxels=responses.n_voxels,
        n_repeats=n_repeats,
        row_unit=next(iter(data.stories.values())).row_unit,
        leak=bool(getattr(data, "leak", False)),
    )


def model_stamp(submission: Submission, identity: ModelIdentity, n_layers: int, n_features: int) -> ModelStamp:
    """What was asked for and what was resolved."""
    return ModelStamp(
        submission=submission.label,
        display_name=submission.metadata.display_name,
        row="baseline" if submission.is_baseline else "submission",
        source=submission.model.source,
        loader=submission.model.loader,
        revision=identity.revision,
        weights="none" if submission.is_baseline else submission.weights,
        seed=submission.seed,
        weights_sha256=identity.weights_sha256,
        tokenizer_sha256=identity.tokenizer_sha256,
        dtype=identity.dtype,
        n_parameters=identity.n_parameters,
        n_layers=n_layers,
        n_features=n_features,
        track=submission.track,
        committed=submission.committed.model_dump(exclude_none=True) if submission.committed else {},
        visibility=submission.visibility,
        metadata=submission.metadata.model_dump(mode="json", exclude_none=True),
    )
