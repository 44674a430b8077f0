# SPDX-License-Identifier: Apache-2.0
"""COCO 2017 annotations: captions and object categories of images, from the JSON files as they are distributed."""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxelboard.benchmark.errors import DataError
from voxelboard.benchmark.readers.arrays import require_file

SPLITS = ("train2017", "val2017")
_FETCH = "get annotations_trainval2017.zip from https://cocodataset.org/#download and unpack it here"


@dataclass(frozen=True)
class CocoAnnotations:
    """What people wrote of images, and what they marked in them.

    captions : image id -> captions, in the order of their annotation ids; five, rarely more.
    categories : image id -> names of the categories that it shows; category_names : all, in the order of their ids.
    """

    captions: Mapping[int, tuple[str, ...]]
    categories: Mapping[int, frozenset[str]]
    category_names: tuple[str, ...]


def read_coco(folder: Path, image_ids: Mapping[str, Collection[int]]) -> CocoAnnotations:
    """Captions and categories of the images asked for.

    Parameters
    ----------
    folder : with ``annotations/captions_<split>.json`` and ``annotations/instances_<split>.json``.
    image_ids : split (``train2017``, ``val2017``) -> COCO ids of the images that are wanted.

    Raises
    ------
    MissingPrerequisite
        for a file that is not there.
    DataError
        for files that are damaged or lack what they should have, and wanted images without captions.
    """
    captions: dict[int, tuple[str, ...]] = {}
    categories: dict[int, set[str]] = defaultdict(set)
    names: dict[int, str] = {}
    for split, ids in image_ids.items():
        if split not in SPLITS:
            raise DataError(f"COCO has no split {split!r}", f"it has {' and '.join(SPLITS)}")
        wanted = set(ids)
        captions.update(_read_captions(folder / "annotations" / f"captions_{split}.json", wanted))
        instances = folder / "annotations" / f"instances_{split}.json"
        content = _load(instances, "annotations", "categories")
        names.update(
            {int(item["id"]): str(item["name"]) for item in _items(content, "categories", instances, "id", "name")}
        )
        for item in _items(content, "annotations", instances, "image_id", "category_id"):
            if int(item["image_id"]) in wanted:
                try:
                    categories[int(item["image_id"])].add(names[int(item["category_id"])])
                except KeyError:
                    raise DataError(f"{instances.name}: unknown category {item['category_id']}", _FETCH) from None
        missing = wanted - set(captions)
        if missing:
            raise DataError(
                f"{len(missing)} images of {split} have no captions, the first is COCO image {min(missing)}",
                "the captions are of another release, or the file is incomplete",
            )
    return CocoAnnotations(
        captions, {k: frozenset(v) for k, v in categories.items()}, tuple(names[number] for number in sorted(names))
    )


def _read_captions(path: Path, wanted: Collection[int]) -> dict[int, tuple[str, ...]]:
    found: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for item in _items(_load(path, "annotations"), "annotations", path, "image_id", "id", "caption"):
        if int(item["image_id"]) in wanted:
            text = " ".join(str(item["caption"]).split())  # some end in line breaks
            if not text:
                raise DataError(f"{path.name}: caption {item['id']} of image {item['image_id']} is empty", _FETCH)
            found[int(item["image_id"])].append((int(item["id"]), text))
    return {image: tuple(text for _, text in sorted(texts)) for image, texts in found.items()}


def _load(path: Path, *keys: str) -> dict[str, Any]:
    require_file(path, _FETCH)
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path.name} is truncated or damaged: {error}", _FETCH) from error
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in keys):
        raise DataError(f"{path.name} lacks a list {' or '.join(keys)}", _FETCH)
    return content


def _items(content: dict[str, Any], name: str, path: Path, *keys: str) -> list[dict[str, Any]]:
    items: list[Any] = content[name]
    for number, item in enumerate(items):
        if not isinstance(item, dict) or not all(key in item for key in keys):
            raise DataError(f"{path.name}: entry {number} of {name} lacks {', '.join(keys)}", _FETCH)
    return items
