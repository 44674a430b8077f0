# SPDX-License-Identifier: Apache-2.0
"""Which region a voxel or vertex belongs to: atlases as files, and those that nilearn has on this machine.

Nothing is downloaded here. Volumes (Schaefer, Harvard-Oxford, Destrieux) may lie on another grid than the scans; surfaces take
FreeSurfer's ``.annot`` files (Destrieux is ``aparc.a2009s``, Glasser ``HCP-MMP1``, Schaefer has its own), one a hemisphere.
"""

import csv
import re
import xml.etree.ElementTree as ET
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError, unknown_name
from voxelboard.benchmark.readers.arrays import damage_told, require_file
from voxelboard.benchmark.readers.base import RoiOrder
from voxelboard.benchmark.readers.lazy_runs import LEFT_OUT
from voxelboard.benchmark.readers.packages import load_package
from voxelboard.benchmark.readers.volumes import Volume, labels_at, read_label_names, read_volume

MASK, PARCELS = "mask.nii.gz", "parcels.nii.gz"
# Labels of what is no region: left out of every score.
_NO_REGION = re.compile(r"(?i)(unknown|\?\?\?|medial.?wall|background|corpuscallosum|freesurfer_defined_medial_wall).*")
# Atlas -> (image, table of labels) below nilearn's data folder, and the call that fetches it.
_ATLASES = {
    "harvard-oxford": (
        "fsl/data/atlases/HarvardOxford/HarvardOxford-cort-maxprob-thr25-2mm.nii.gz",
        "fsl/data/atlases/HarvardOxford-Cortical.xml",
        'fetch_atlas_harvard_oxford("cort-maxprob-thr25-2mm")',
    ),
    "destrieux": (
        "destrieux_2009/destrieux2009_rois_lateralized.nii.gz",
        "destrieux_2009/destrieux2009_rois_labels_lateralized.csv",
        "fetch_atlas_destrieux_2009()",
    ),
    **{
        f"schaefer-{n}": (
            f"schaefer_2018/Schaefer2018_{n}Parcels_7Networks_order_FSLMNI152_1mm.nii.gz",
            f"schaefer_2018/Schaefer2018_{n}Parcels_7Networks_order.txt",
            f"fetch_atlas_schaefer_2018(n_rois={n})",
        )
        for n in range(100, 1001, 100)
    },
}


def atlas_files(name: str) -> tuple[Path, Path]:
    """Image and table of labels of an atlas that nilearn has fetched before.

    Raises
    ------
    UserError
        for an unknown atlas.
    MissingPrerequisite
        when nilearn is not installed or does not have it: the message says what to type.
    """
    if name not in _ATLASES:
        raise unknown_name("atlas", name, _ATLASES, "or give the path of a NIfTI file")
    image, table, call = _ATLASES[name]
    for folder in load_package("nilearn.datasets", f"the atlas {name}").get_data_dirs():
        if (Path(folder) / image).is_file() and (Path(folder) / table).is_file():
            return Path(folder) / image, Path(folder) / table
    raise MissingPrerequisite(
        f"nilearn does not have the atlas {name} on this machine",
        f'python -c "from nilearn import datasets; datasets.{call}"',
    )


def brain_mask(folder: Path, grid: Volume) -> Volume:
    """A mask on the grid of the scans: ``mask.nii.gz`` of a folder, or the MNI brain mask that comes with nilearn.

    Raises
    ------
    MissingPrerequisite
        when there is neither.
    DataError
        for a mask that misses the grid.
    """
    if (folder / MASK).exists():
        source = read_volume(folder / MASK)
    else:
        try:
            image = load_package("nilearn.datasets", "the MNI brain mask").load_mni152_brain_mask(resolution=2)
        except MissingPrerequisite as error:
            raise MissingPrerequisite(
                f"there is no {folder / MASK}, and nilearn, which has one, is not installed", error.hint
            ) from error
        source = Volume(np.asarray(image.dataobj), np.asarray(image.affine))
    everywhere = Volume(np.ones(grid.values.shape, dtype=np.int8), grid.affine)
    inside = labels_at(Volume(source.values != 0, source.affine), everywhere).reshape(grid.values.shape)
    if not inside.any():
        raise DataError(f"the mask has no voxel inside of the scans' grid {grid.values.shape}", "check its affine")
    return Volume(inside, grid.affine)


def volume_labels(folder: Path, mask: Volume) -> NDArray[np.str_]:
    """(n_voxels,) the region of each voxel of a mask from ``parcels.nii.gz`` and ``parcels.txt``; raises as below."""
    return parcel_labels(folder / PARCELS, folder / PARCELS.replace(".nii.gz", ".txt"), mask)


def parcel_labels(image: Path, table: Path, mask: Volume) -> NDArray[np.str_]:
    """(n_voxels,) the name of the parcel at each voxel of ``mask``, in C order; ``-`` where there is none.

    Parameters
    ----------
    table : ``number name`` a line, nilearn's CSV (index, name), or FSL's XML.

    Raises
    ------
    MissingPrerequisite
        when a file is missing.
    DataError
        for a parcel without a name, and where no voxel lies in any parcel.
    """
    names = _read_names(require_file(table, "a table of label numbers and names"))
    numbers = labels_at(read_volume(image), mask)
    nameless = sorted(set(numbers.tolist()) - set(names) - {0})
    if nameless:
        raise DataError(f"{table.name} has no name for the parcels {nameless[:10]}", f"they occur in {image.name}")
    labels = {number: _region(name) for number, name in names.items()}
    found = np.array([labels.get(number, LEFT_OUT) if number else LEFT_OUT for number in numbers.tolist()])
    if (found == LEFT_OUT).all():
        raise DataError(
            f"no voxel of the mask lies in a parcel of {image.name}", "check that both are in the same space"
        )
    return found


def surface_labels(left: Path, right: Path) -> NDArray[np.str_]:
    """(n_vertices,) the region of each vertex, left then right, from two FreeSurfer ``.annot`` files; ``-`` for none."""
    halves = []
    for side, path in (("L", left), ("R", right)):
        require_file(path, "FreeSurfer's annotation of one hemisphere")
        with damage_told(path):
            numbers, _, names = load_package("nibabel.freesurfer", "annotations").read_annot(path)
        regions = np.array([_region(name.decode(), side) for name in names] + [LEFT_OUT])
        halves.append(regions[numbers])  # -1: no region
    return np.concatenate(halves)


def scored_labels(labels: NDArray[np.str_]) -> tuple[str, ...]:
    """All regions but what is left out; raises DataError when nothing is left."""
    scored = tuple(sorted(set(labels.tolist()) - {LEFT_OUT}))
    if not scored:
        raise DataError("the parcellation leaves everything out")
    return scored


# From sound to language (Rahimi et al. 2025, arXiv 2502.14671), in the names of Destrieux's surface atlas: Heschl's gyrus and
# sulcus, superior temporal gyrus and sulcus, inferior frontal gyrus, lateral sulcus. The paper names no atlas.
_LANGUAGE_HIERARCHY = (
    ("G_temp_sup-G_T_transv",),
    ("S_temporal_transverse",),
    ("G_temp_sup-Lateral",),
    ("S_temporal_sup",),
    ("G_front_inf-Opercular", "G_front_inf-Triangul"),
    ("Lat_Fis-post",),
)


def language_hierarchy(regions: Collection[str]) -> RoiOrder:
    """The regions of a Destrieux surface from sound to language, both hemispheres in one place; empty for other atlases."""
    places = (tuple(f"{side} {name}" for name in names for side in "LR") for names in _LANGUAGE_HIERARCHY)
    held = (tuple(region for region in place if region in regions) for place in places)
    return tuple(place for place in held if place)


def find_annotations(folder: Path) -> tuple[Path, Path] | None:
    """``lh.NAME.annot`` and ``rh.NAME.annot`` of a folder, or None; raises UserError for several."""
    found = sorted(folder.glob("lh.*.annot"))
    if not found:
        return None
    if len(found) > 1:
        raise UserError(f"there are {len(found)} annotations in {folder}", "keep one")
    return found[0], found[0].with_name("rh" + found[0].name[2:])


def _region(name: str, side: str = "") -> str:
    name = name.strip()
    if not name or _NO_REGION.fullmatch(name):
        return LEFT_OUT
    return f"{side} {name}" if side else name


def _read_names(path: Path) -> dict[int, str]:
    if path.suffix == ".xml":
        with damage_told(path):
            text = path.read_text(encoding="utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:  # entities can unfold without bound; FSL writes none
            raise DataError(f"{path.name} is no table of labels")
        try:
            items = ET.fromstring(text).iter("label")  # noqa: S314 - without entities, see above
            return {int(item.get("index", "")) + 1: str(item.text) for item in items}
        except (ET.ParseError, ValueError) as error:
            raise DataError(f"{path.name} is damaged: {error}", "get the file again") from error
    if path.suffix == ".csv":
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
        return {int(row[0]): row[1] for row in rows if len(row) > 1 and row[0].strip().isdecimal()}
    return read_label_names(path)
