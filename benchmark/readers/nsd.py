# SPDX-License-Identifier: Apache-2.0
"""The Natural Scenes Dataset (Allen et al. 2022) with COCO captions: eight people, 73,000 photographs, three repeats.

Volumes (``nsd``: func1pt8mm) or the common surface (``nsd:fsaverage``). Betas are the denoised single-trial estimates
``betas_fithrf_GLMdenoise_RR``, z-scored for each voxel and session. Test images are the shared ones that all subjects saw
three times (515), training images all others with three repeats. What was read and sorted is kept in the user's folder,
so that the sessions of a subject are read once.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.protocol import TaskName
from voxelboard.benchmark.readers.arrays import damage_told, require_file
from voxelboard.benchmark.readers.base import CeilingKind, DatasetKind, StaticVectors, require_subject
from voxelboard.benchmark.readers.captions_data import Float32Array, ImageResponses, IntArray
from voxelboard.benchmark.readers.cards import Card, ImageSplit
from voxelboard.benchmark.readers.coco import read_coco
from voxelboard.benchmark.readers.nsd_betas import (
    VolumeVoxels,
    read_ncsnr,
    read_surface_session,
    read_volume_session,
    session_file,
    sort_by_image,
    trained_images,
)
from voxelboard.benchmark.readers.nsd_tables import (
    REPEATS,
    Design,
    Stimuli,
    read_design,
    read_stimuli,
    shared_test_images,
    trials_of,
)
from voxelboard.benchmark.readers.packages import load_package
from voxelboard.benchmark.readers.surfaces import surface_of, vertices
from voxelboard.benchmark.readers.volumes import read_label_names, read_surface_map, read_volume
from voxelboard.benchmark.stimuli.captions import CaptionedImages, captioned_images, picture_statistics

VOLUME, SURFACE = "func1pt8mm", "fsaverage"  # spaces, as the release names its folders
STREAMS = "streams"
_MIN_VOXELS = 2  # of a region in every subject: RDMs of correlations need two
_BETAS = "betas_fithrf_GLMdenoise_RR"
_STIMULI = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
_FORMAT = 1  # of what is kept
_PIXEL_CHUNK = 500
_WORDS_AN_IMAGE = 52.5  # COCO has five captions of 10.5 words


class Nsd:
    """Satisfies ``CaptionsData``. Subjects are those whose betas are here; the ceiling of RSA needs two or more.

    Memory: one session of the scored regions, and the mean responses of a subject's images (about 0.8 GB in volumes).

    Parameters
    ----------
    card : of the data set. Its options: ``sessions`` (of each subject), ``trials_per_session``.
    folder : with ``nsddata``, ``nsddata_betas``, ``nsddata_stimuli`` as released, and ``annotations`` of COCO 2017.
    variant : ``""`` for volumes, ``"fsaverage"`` for the surface; then, or after another colon, the name of a label file other than
        ``streams`` (``floc-faces``, ``prf-visualrois``), of which the regions that all subjects have are scored.
    keep : folder for what was read and sorted.

    Raises
    ------
    MissingPrerequisite
        for files that are not there.
    DataError
        for tables that do not agree.
    """

    kind: DatasetKind
    task: TaskName = "captions"
    n_repeats = REPEATS
    ceiling_kind: CeilingKind = "repeats"

    def __init__(self, card: Card, folder: Path, variant: str, keep: Path) -> None:
        self._space, self._label_file = _space_and_labels(card.name, variant)
        if not isinstance(card.split, ImageSplit):
            raise DataError(f"card {card.name}: this reader needs a split by images")
        self.name = f"{card.name}:{variant}" if variant else card.name
        self.version, self.kind = card.version, card.kind
        self.in_correspondence = self._space == SURFACE
        self.static_vectors: StaticVectors | None = None
        self._folder, self._keep = folder, keep
        sessions = [int(n) for n in card.options["sessions"].split()]
        self._sessions = dict(zip(card.subjects, sessions, strict=True))
        self._per_session = int(card.options["trials_per_session"])
        self._design: Design = read_design(folder)
        self._stimuli: Stimuli = read_stimuli(folder)
        n_trials = {subject: n * self._per_session for subject, n in self._sessions.items()}
        self.test_ids: IntArray = shared_test_images(self._design, self._stimuli, n_trials, card.split.n_test)
        self.subjects = tuple(subject for subject in card.subjects if self._betas(subject).is_dir())
        if not self.subjects:
            raise MissingPrerequisite(
                f"there are no betas of {card.name} in {folder / 'nsddata_betas'}",
                "fill in the access agreement at naturalscenesdataset.org, then download one subject or more",
            )
        self.scored_rois = card.scored_rois if self._label_file == STREAMS else self._common_regions()

    def _betas(self, subject: str) -> Path:
        return self._folder / "nsddata_betas" / "ppdata" / subject / self._space / _BETAS

    def _shown(self, subject: str) -> IntArray:
        n_trials = self._sessions[subject] * self._per_session
        return trials_of(self._folder, self._design, self._stimuli, subject, n_trials)

    def train_ids(self, subject: str) -> IntArray:
        """Images with three repeats that are no test images."""
        require_subject(self.name, subject, self.subjects)
        return trained_images(self._shown(subject), self.test_ids, len(self._stimuli.coco_ids), REPEATS)

    def n_voxels(self, subject: str) -> int:
        """Voxels of the scored regions; a few that hold no numbers are left out when they are read."""
        require_subject(self.name, subject, self.subjects)
        return int(self._regions(subject)[1].sum())

    def n_words(self) -> int:
        """By the average of COCO: reading its captions takes a minute."""
        n_images = len(self.test_ids) + sum(len(self.train_ids(subject)) for subject in self.subjects)
        return round(n_images * _WORDS_AN_IMAGE)

    @cached_property
    def images(self) -> CaptionedImages:
        """The images of the subjects that are here, with the captions and categories of COCO."""
        ids = np.unique(np.concatenate([self.test_ids, *(self.train_ids(subject) for subject in self.subjects)]))
        coco, splits = self._stimuli.coco_ids[ids], self._stimuli.coco_splits[ids]
        wanted = {str(split): coco[splits == split].tolist() for split in np.unique(splits)}
        found = read_coco(self._folder, wanted)
        table = np.array([[name in found.categories.get(int(i), ()) for name in found.category_names] for i in coco])
        return captioned_images(
            ids, [found.captions[int(i)] for i in coco], table, found.category_names, self._low_level(ids)
        )

    def pixels(self, ids: Sequence[int] | IntArray) -> NDArray[np.uint8]:
        """(n_ids, 425, 425, 3) RGB, from the brick of all images.

        Raises
        ------
        MissingPrerequisite, DataError
            when it is not there or damaged.
        """
        hint = "nsd_stimuli.hdf5 comes with the access agreement: the control floor needs what the pictures look like"
        path = require_file(self._folder / _STIMULI, hint)
        wanted = np.asarray(ids, dtype=np.int64)
        order = np.argsort(wanted, kind="stable")
        h5py = load_package("h5py", "HDF5 files")
        with damage_told(path), h5py.File(path, "r") as file:
            found = file["imgBrick"][np.unique(wanted)]  # h5py reads ascending rows only
        back = np.empty(len(wanted), dtype=np.int64)
        back[order] = np.searchsorted(np.unique(wanted), wanted[order])
        return np.asarray(found[back], dtype=np.uint8)

    def _low_level(self, ids: IntArray) -> NDArray[np.float64]:
        def compute() -> dict[str, NDArray[Any]]:
            chunks = [self.pixels(ids[i : i + _PIXEL_CHUNK]) for i in range(0, len(ids), _PIXEL_CHUNK)]
            return {"statistics": np.concatenate([picture_statistics(chunk) for chunk in chunks])}

        stimuli = self._folder / _STIMULI
        return np.asarray(self._kept({"what": "pictures", "ids": _digest(ids)}, [stimuli], compute)["statistics"])

    def responses(self, subject: str) -> ImageResponses:
        """Read, z-score and sort the sessions of a subject, or take what was kept of it.

        Raises
        ------
        UserError
            for an unknown subject.
        MissingPrerequisite, DataError
            for sessions or regions that are missing, of another grid, scale or number of repeats.
        """
        require_subject(self.name, subject, self.subjects)
        shown, train_ids = self._shown(subject), self.train_ids(subject)
        labels, mask = self._regions(subject)

        def compute() -> dict[str, NDArray[Any]]:
            found = sort_by_image(self._read_sessions(subject, mask), shown, train_ids, self.test_ids, REPEATS)
            return {"train": found.train, "test": found.test, "kept": found.kept}

        key = {"what": self._space, "subject": subject, "rois": list(self.scored_rois)}
        files = sorted(self._betas(subject).iterdir())
        stored = self._kept({**key, "labels": _digest(labels[mask])}, files, compute)
        kept = np.asarray(stored["kept"])
        voxels = np.flatnonzero(mask.ravel())[kept]
        volume = mask.ndim == 3
        ratio = read_ncsnr(self._betas(subject), mask)
        # a smaller surface than FreeSurfer's, as in tests, has no place on the shared one
        surface = None if volume else surface_of(mask.size)
        return ImageResponses(
            subject,
            train_ids,
            stored["train"],
            self.test_ids,
            stored["test"],
            labels.ravel()[voxels],
            np.stack(np.unravel_index(voxels, mask.shape), axis=1).astype(np.int64) if volume else None,
            (int(mask.shape[0]), int(mask.shape[1]), int(mask.shape[2])) if volume else None,
            None if surface is None else vertices(surface, mask.size)[voxels],
            None if ratio is None else ratio[kept],
        )

    def responses_sha256(self, subject: str) -> str:
        """Hash of a subject's responses."""
        return self.responses(subject).sha256()

    def _read_sessions(self, subject: str, mask: NDArray[np.bool_]) -> Iterator[Float32Array]:
        folder = self._betas(subject)
        for session in range(1, self._sessions[subject] + 1):
            if self._space == SURFACE:
                yield read_surface_session(folder, session, mask, self._per_session)
            else:
                yield read_volume_session(session_file(folder, session), VolumeVoxels(mask), self._per_session)

    def _regions(self, subject: str) -> tuple[NDArray[np.str_], NDArray[np.bool_]]:
        """The name of the region of every voxel (x, y, z) or vertex, and which are scored."""
        table, names = self._labels(subject)
        absent = [roi for roi in self.scored_rois if roi not in names]
        if absent:
            raise DataError(
                f"{self._label_file}.mgz.ctab of {subject} has no region {', '.join(absent)}; it has {list(names)}"
            )
        return table, np.isin(table, self.scored_rois)

    def _labels(self, subject: str) -> tuple[NDArray[np.str_], tuple[str, ...]]:
        """The name of every voxel or vertex, ``-`` where it has none, and all names but that of 0."""
        hint, name = "get the regions of nsddata; the access agreement covers them", self._label_file
        place = self._folder / "nsddata" / "freesurfer" / (SURFACE if self._space == SURFACE else subject) / "label"
        if self._space == SURFACE:
            numbers = np.concatenate([read_surface_map(place / f"{h}.{name}.mgz", hint) for h in ("lh", "rh")])
        else:
            numbers = read_volume(self._region_folder(subject) / f"{name}.nii.gz", hint).values
        names = read_label_names(place / f"{name}.mgz.ctab")
        table = np.full(numbers.shape, "-", dtype="<U32")
        for number, region in names.items():
            table[np.rint(numbers) == number] = region
        return table, tuple(region for number, region in names.items() if number > 0)

    def _region_folder(self, subject: str) -> Path:
        return self._folder / "nsddata" / "ppdata" / subject / VOLUME / "roi"

    def _common_regions(self) -> tuple[str, ...]:
        """The regions of a label file that every subject has, in the order of its table.

        Raises
        ------
        UserError
            for a name that no label file has, with those that are there.
        DataError
            when subjects have no region in common.
        """
        first = self.subjects[0]
        if self._space == SURFACE:
            label = self._folder / "nsddata" / "freesurfer" / SURFACE / "label"
            known = sorted(path.name.removeprefix("lh.").removesuffix(".mgz") for path in label.glob("lh.*.mgz"))
        else:
            files = (path.name.removesuffix(".nii.gz") for path in self._region_folder(first).glob("*.nii.gz"))
            known = sorted(name for name in files if not name.startswith(("lh.", "rh.")))
        if self._label_file not in known:
            there = f"regions that are there: {', '.join(known) or 'none'}"
            raise UserError(
                f"{self.name} has no variant or regions {self._label_file!r}", f"{there}; the surface is {SURFACE}"
            )
        found = [self._labels(subject) for subject in self.subjects]
        common = tuple(
            name
            for name in found[0][1]
            if all(name in names and (table == name).sum() >= _MIN_VOXELS for table, names in found)
        )
        if not common:
            raise DataError(f"{self.name}: the subjects have no region of {self._label_file} in common")
        return common

    def _kept(self, key: dict[str, Any], files: Sequence[Path], compute: Any) -> dict[str, NDArray[Any]]:
        """Arrays under the hash of what they were made of: the card's version, and name, size and date of the files."""
        stamps = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.is_file()]
        content = json.dumps([_FORMAT, self.name, self.version, key, stamps, _digest(self.test_ids)], sort_keys=True)
        folder = self._keep / hashlib.sha256(content.encode()).hexdigest()[:32]
        note = folder / "key.json"
        if not note.is_file():
            for name, array in compute().items():
                replace_file(folder / f"{name}.npy", partial(_save, array))
            replace_file(note, lambda file: file.write(content.encode()))
        return {
            path.stem: np.load(path, mmap_mode="r" if path.stat().st_size > 1 << 20 else None, allow_pickle=False)
            for path in sorted(folder.glob("*.npy"))
        }


def _space_and_labels(name: str, variant: str) -> tuple[str, str]:
    """``""``, ``fsaverage``, ``REGIONS`` and ``fsaverage:REGIONS``: which space, and the label file of the regions.

    Raises
    ------
    UserError
        for anything else.
    """
    parts = variant.split(":") if variant else []
    space = SURFACE if parts[:1] == [SURFACE] else VOLUME
    labels = parts[1:] if space == SURFACE else parts
    if len(labels) > 1 or not all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", label) for label in labels):
        raise UserError(
            f"{name} has no variant {variant!r}",
            f"write {name}, {name}:{SURFACE}, {name}:REGIONS or {name}:{SURFACE}:REGIONS",
        )
    return space, labels[0] if labels else STREAMS


def _save(array: NDArray[Any], file: BinaryIO) -> None:
    np.save(file, array, allow_pickle=False)


def _digest(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
