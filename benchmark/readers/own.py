# SPDX-License-Identifier: Apache-2.0
"""Bring your own: a folder with a ``dataset.yaml``, responses in a common format, and a table of words a story."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.protocol import TaskName
from voxelboard.benchmark.readers.arrays import (
    NIFTI,
    SUFFIXES,
    has_suffix,
    read_mask,
    read_responses,
    require_file,
    response_shape,
)
from voxelboard.benchmark.readers.base import (
    CeilingKind,
    DatasetKind,
    Responses,
    Segment,
    Split,
    StaticVectors,
    leave_one_segment_out,
    require_subject,
)
from voxelboard.benchmark.readers.card_sources import InsidePath, Name, Text
from voxelboard.benchmark.readers.cards import SegmentSplit, StorySplit, list_cards
from voxelboard.benchmark.readers.lazy_runs import LEFT_OUT, LazyRuns, keep_by_subject, read_labels
from voxelboard.benchmark.readers.parcellations import atlas_files, parcel_labels
from voxelboard.benchmark.readers.surfaces import SurfaceName, vertices
from voxelboard.benchmark.readers.volumes import Volume, read_volume
from voxelboard.benchmark.stimuli.acoustics import read_acoustics
from voxelboard.benchmark.stimuli.frequencies import read_word_counts, with_log_frequency
from voxelboard.benchmark.stimuli.stories import Story
from voxelboard.benchmark.stimuli.transcripts import SUFFIXES as TRANSCRIPTS
from voxelboard.benchmark.stimuli.transcripts import read_transcript
from voxelboard.benchmark.stimuli.word_tables import story_on_clock
from voxelboard.benchmark.strict_yaml import read_yaml, validate

Float32Array = NDArray[np.float32]

FILE = "dataset.yaml"
ROI = "all"
# More words than this outside of the responses are taken for a wrong clock, not for a trimmed scan.
_MAX_LOST_SHARE = 0.2
_HEMISPHERES = ("L", "R")
# A filled-in pattern must not name another place: subjects and stories are names, never paths.
# YAML takes 01 for a number: such names need quotes.
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]


class OwnStories(StorySplit):
    """As a card's split by stories; the lists of a hand-written file are lists, not tuples."""

    model_config = ConfigDict(strict=False)


class OwnSegments(SegmentSplit):
    """As a card's split by segments."""

    model_config = ConfigDict(strict=False)


class OwnDataset(BaseModel):
    """What a ``dataset.yaml`` says."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    schema_version: Literal[1]
    name: Name
    """How records and tables call the data set."""
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    """Change it when bytes, split or anything in this file change."""
    tr_s: Annotated[float, Field(gt=0)]
    subjects: Annotated[tuple[Label, ...], Field(min_length=1)]
    split: Annotated[OwnStories | OwnSegments, Field(discriminator="kind")]
    words: InsidePath
    """Path of the transcript of a story, with ``{story}``: .csv or .tsv (columns word, onset, offset in seconds, or BIDS events),
    .json of WhisperX, Whisper or Gentle, or .TextGrid."""
    first_row_s: float = 0.0
    """Seconds in the word tables at the moment when the first response row starts; negative if the scan starts first."""
    responses: InsidePath
    """Path of the responses, with ``{subject}``, ``{story}`` and, for surfaces, ``{hemi}`` (L, R)."""
    hdf5_key: Text = "data"
    surface: SurfaceName | None = None
    """FreeSurfer's average surface that the responses lie on, left hemisphere first: fsaverage5, fsaverage6 or fsaverage.
    The board then draws maps of the cortex."""
    mask: InsidePath | None = None
    """For NIfTI: a volume that is not zero where a voxel is meant; may hold ``{subject}``."""
    audio: InsidePath | None = None
    """Path of the sound of a story, with ``{story}``: .wav. Its envelope and spectrum become confounds."""
    frequencies: InsidePath | None = None
    """Path of a table of word counts: .csv or .tsv with the columns word, count. Log frequency becomes a confound."""
    rois: InsidePath | None = None
    """Path of a text file with the label of each voxel, ``-`` leaves one out, or of a NIfTI parcellation with a table
    of ``number name`` beside it (atlas.nii.gz, atlas.txt); may hold ``{subject}``."""
    atlas: Text | None = None
    """Instead of ``rois``: an atlas that nilearn has on this machine, such as harvard-oxford or schaefer-400."""
    scored_rois: tuple[Text, ...] = ()
    """The headline is the mean over these; without it, over all labels."""
    roi_order: tuple[Text, ...] = ()
    """Regions from early to late, to which the preferred layers of a model are compared (``--features attributions``)."""
    ceiling: CeilingKind
    """``repeats``: responses to test stories have the axes (repeat, TR, voxel)."""
    not_heard: dict[Label, tuple[Label, ...]] = Field(default_factory=dict)
    """Subject -> training stories that this subject did not hear."""

    @property
    def story_names(self) -> tuple[str, ...]:
        return (self.split.story,) if isinstance(self.split, SegmentSplit) else (*self.split.train, *self.split.test)

    @model_validator(mode="after")
    def _paths_tell_files_apart(self) -> Self:
        for what, text, needed, allowed in (
            ("words", self.words, {"story"}, {"story"}),
            ("responses", self.responses, {"subject", "story"}, {"subject", "story", "hemi"}),
            ("mask", self.mask or "", set(), {"subject"}),
            ("rois", self.rois or "", set(), {"subject"}),
            ("audio", self.audio or "", {"story"} if self.audio else set(), {"story"}),
            ("frequencies", self.frequencies or "", set(), set()),
        ):
            found = {name for name in ("subject", "story", "hemi") if f"{{{name}}}" in text}
            missing, strange = needed - found, found - allowed
            if isinstance(self.split, SegmentSplit):
                missing -= {"story"}  # there is one
            if len(self.subjects) == 1:
                missing -= {"subject"}
            if missing or strange:
                raise ValueError(f"{what}: {text!r} needs {sorted(missing)}, must not have {sorted(strange)}")
        if not has_suffix(self.responses, SUFFIXES):
            raise ValueError(f"responses: {self.responses!r} must end in one of {', '.join(SUFFIXES)}")
        if has_suffix(self.responses, NIFTI) != (self.mask is not None):
            raise ValueError("mask: give one with NIfTI responses, and with no others")
        if not has_suffix(self.words, TRANSCRIPTS):
            raise ValueError(f"words: {self.words!r} must end in one of {', '.join(TRANSCRIPTS)}")
        if has_suffix(self.rois or "", NIFTI) and self.mask is None:
            raise ValueError("rois: a parcellation needs NIfTI responses and their mask")
        return self

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        for what, names in (("subjects", self.subjects), ("stories", self.story_names)):
            if len(set(names)) != len(names):
                raise ValueError(f"{what} are listed twice")
        wrong = [story for story in self.story_names if "/" in story or "\\" in story or story.startswith(".")]
        if wrong:
            raise ValueError(f"stories must be plain names, got {wrong}")
        if strangers := set(self.not_heard) - set(self.subjects):
            raise ValueError(f"not_heard of unknown subjects: {', '.join(sorted(strangers))}")
        train = self.split.train if isinstance(self.split, StorySplit) else ()
        if strangers := {story for stories in self.not_heard.values() for story in stories} - set(train):
            raise ValueError(f"not_heard must name training stories, got {', '.join(sorted(strangers))}")
        if self.atlas is not None and (self.rois is not None or self.mask is None):
            raise ValueError("atlas: needs NIfTI responses with a mask, and no rois beside it")
        if self.surface is not None and self.mask is not None:
            raise ValueError("surface: NIfTI responses lie in a volume; leave surface or mask out")
        if self.ceiling == "inter_subject" and len(self.subjects) < 2:
            raise ValueError("ceiling: inter_subject needs two subjects or more")
        return self


class OwnData:
    """A laboratory's own data set; satisfies ``NarrativeData``.

    Responses are read story by story when they are looked up.

    Parameters
    ----------
    folder : that holds ``dataset.yaml``; all paths in it start here.

    Raises
    ------
    UserError
        for a ``dataset.yaml`` that is wrong: file, line, key, what was got and what is allowed.
    MissingPrerequisite, DataError
        for files that are missing, damaged, or do not fit each other.
    """

    kind: DatasetKind = "real"
    task: TaskName = "narrative"
    ceiling_kind: CeilingKind
    static_vectors: StaticVectors | None

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own = validate(read_yaml(folder / FILE), OwnDataset)
        if self._own.name in list_cards():
            raise UserError(
                f"{folder / FILE}: {self._own.name} is the name of a public data set", "choose another name"
            )
        self.name = self._own.name
        self.version = self._own.version
        self.ceiling_kind = self._own.ceiling
        self.subjects = self._own.subjects
        self.static_vectors = None
        own = self._own.frequencies
        self._counts = None if own is None else read_word_counts(folder / own)
        self._labels = {subject: self._read_labels(subject) for subject in self.subjects}
        self.scored_rois = self._scored_rois()
        self.roi_order = self._own.roi_order
        self.stories: Mapping[str, Story] = MappingProxyType(
            {name: self._story(name) for name in self._own.story_names}
        )
        self.split = self._split()

    @keep_by_subject
    def responses(self, subject: str) -> Responses:
        """Story -> (n_repeats, n_trs, n_voxels) float32 of one subject, each read when it is looked up.

        Raises
        ------
        UserError
            for an unknown subject.
        MissingPrerequisite, DataError
            for a file that is missing, damaged, or of another shape than the others; values that cannot be scored are
            found when a story is read.
        """
        require_subject(self.name, subject, self.subjects)
        stories = self._stories_of(subject)
        shapes = {story: self._shape(subject, story) for story in stories}
        first = next(iter(shapes))
        for story, shape in shapes.items():
            self._check_shape(subject, story, shape, n_voxels=shapes[first][-1])
        labels = self._labels[subject]
        if labels is None:
            labels = np.full(shapes[first][-1], ROI)
        if len(labels) != shapes[first][-1]:
            raise DataError(f"{self._own.rois}: {len(labels)} labels for the {shapes[first][-1]} voxels of {subject}")
        kept = labels != LEFT_OUT
        surface = self._own.surface
        places = None if surface is None else vertices(surface, len(labels))[kept]
        return Responses(
            subject, LazyRuns(stories, lambda story: self._read(subject, story, kept)), labels[kept], places
        )

    def _check_shape(self, subject: str, story: str, shape: tuple[int, ...], n_voxels: int) -> None:
        where = f"subject {subject}, story {story!r}"
        expected = (self.stories[story].n_trs, n_voxels)
        if shape[1:] != expected:
            raise DataError(
                f"{where}: {shape[1]} rows of {shape[2]} voxels, expected {expected[0]} of {expected[1]}",
                "all subjects have the same rows of a story, and a subject the same voxels in all stories",
            )
        if self.ceiling_kind == "repeats" and self._is_test(story) and shape[0] < 2:
            raise DataError(
                f"{where}: a ceiling from repeats needs two presentations or more, got {shape[0]}",
                "store (n_repeats, n_trs, n_voxels), or write ceiling: none",
            )

    def _read(self, subject: str, story: str, kept: NDArray[np.bool_]) -> Float32Array:
        mask = self._mask(subject)
        parts = [read_responses(path, self._own.hdf5_key, mask) for path in self._files(subject, story)]
        run = np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
        run = run if run.ndim == 3 else run[None]
        run = run if kept.all() else run[..., kept]
        bad = ~np.isfinite(run).all(axis=(0, 1))
        if bad.any():
            voxel = int(np.flatnonzero(kept)[int(np.argmax(bad))])
            raise DataError(
                f"subject {subject}, story {story!r}: {int(bad.sum())} voxels with NaN or infinite values, the first is "
                f"{voxel}",
                "leave them out of the mask, or with a '-' in the file of rois",
            )
        return run

    def _shape(self, subject: str, story: str) -> tuple[int, int, int]:
        """(n_repeats, n_trs, n_voxels) of what :meth:`_read` gives before voxels are left out."""
        paths = self._files(subject, story)
        shapes = [response_shape(path, self._own.hdf5_key) for path in paths]
        if has_suffix(paths[0], NIFTI):
            mask = self._mask(subject)
            if mask is None or len(shapes[0]) != 4 or shapes[0][:3] != mask.shape:
                raise DataError(f"{paths[0].name}: shape {shapes[0]}, expected {getattr(mask, 'shape', ())} and time")
            return 1, shapes[0][3], int(mask.sum())
        if any(len(shape) not in (2, 3) or shape[:-1] != shapes[0][:-1] for shape in shapes):
            raise DataError(
                f"{paths[0].name}: shapes {shapes}, expected (n_trs, n_voxels) or (n_repeats, n_trs, n_voxels)"
            )
        n_repeats = shapes[0][0] if len(shapes[0]) == 3 else 1
        return n_repeats, shapes[0][-2], sum(shape[-1] for shape in shapes)

    def _files(self, subject: str, story: str) -> list[Path]:
        hemispheres: Sequence[str] = _HEMISPHERES if "{hemi}" in self._own.responses else ("",)
        names = [_fill(self._own.responses, subject=subject, story=story, hemi=hemi) for hemi in hemispheres]
        hint = f"{FILE} says responses: {self._own.responses}; a training story that was not heard goes to not_heard"
        return [require_file(self._folder / name, hint) for name in names]

    def _mask(self, subject: str) -> NDArray[np.bool_] | None:
        if self._own.mask is None:
            return None
        path = self._folder / _fill(self._own.mask, subject=subject)
        return read_mask(require_file(path, f"{FILE} says mask: {self._own.mask}"))

    def _read_labels(self, subject: str) -> NDArray[np.str_] | None:
        if self._own.atlas is not None:
            return parcel_labels(*atlas_files(self._own.atlas), self._mask_volume(subject))
        if self._own.rois is None:
            return None
        path = self._folder / _fill(self._own.rois, subject=subject)
        if not has_suffix(path, NIFTI):
            return read_labels(path)
        table = path.with_name(path.name.partition(".nii")[0] + ".txt")
        return parcel_labels(path, table, self._mask_volume(subject))

    def _mask_volume(self, subject: str) -> Volume:
        return read_volume(self._folder / _fill(self._own.mask or "", subject=subject))

    def _scored_rois(self) -> tuple[str, ...]:
        sets = [{ROI} if own is None else set(own.tolist()) - {LEFT_OUT} for own in self._labels.values()]
        shared = set.intersection(*sets)
        unknown = [roi for roi in self._own.scored_rois if roi not in shared]
        if unknown or not shared:
            raise DataError(
                f"{FILE}: scored_rois {unknown} are not labels of every subject; these are: {', '.join(sorted(shared))}",
                "score labels that every subject has",
            )
        scored = self._own.scored_rois or tuple(sorted(shared))
        strangers = [roi for roi in self._own.roi_order if roi not in scored]
        if strangers:
            raise DataError(f"{FILE}: roi_order {strangers} are not scored; scored are: {', '.join(scored)}")
        return scored

    def _story(self, name: str) -> Story:
        path = require_file(self._folder / _fill(self._own.words, story=name), f"{FILE} says words: {self._own.words}")
        heard = [subject for subject in self.subjects if name in self._stories_of(subject)]
        if not heard:
            raise DataError(f"{FILE}: nobody heard the story {name!r}", "leave it out of the split")
        own = self._own
        n_trs = self._shape(heard[0], name)[1]
        story = story_on_clock(
            name,
            read_transcript(path),
            first_row_s=own.first_row_s,
            n_trs=n_trs,
            tr=own.tr_s,
            max_lost_share=_MAX_LOST_SHARE,
        )
        if own.audio is not None:
            sound = self._folder / _fill(own.audio, story=name)
            story = replace(story, acoustics=read_acoustics(sound, n_trs=n_trs, tr=own.tr_s, start_s=own.first_row_s))
        return story if self._counts is None else with_log_frequency(story, self._counts)

    def _stories_of(self, subject: str) -> tuple[str, ...]:
        unheard = self._own.not_heard.get(subject, ())
        return tuple(name for name in self._own.story_names if name not in unheard)

    def _split(self) -> Split:
        split = self._own.split
        if isinstance(split, SegmentSplit):
            return leave_one_segment_out(split.story, self.stories[split.story].n_trs, split.n_segments)
        train, test = (
            tuple(Segment(story, 0, self.stories[story].n_trs) for story in side) for side in (split.train, split.test)
        )
        return Split(folds=((train, test),))

    def _is_test(self, story: str) -> bool:
        return any(segment.story == story for segment in self.split.test_segments)


def _fill(pattern: str, **names: str) -> str:
    """The pattern with its names filled in; other braces are left as they are."""
    for name, value in names.items():
        pattern = pattern.replace(f"{{{name}}}", value)
    return pattern
