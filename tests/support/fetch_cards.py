# SPDX-License-Identifier: Apache-2.0
"""A small data set in a bucket, and its card."""

import hashlib

from voxelboard.benchmark.readers.card_sources import CardFile, FilePattern, Source
from voxelboard.benchmark.readers.cards import Card, StorySplit, load_card

ALICE = load_card("alice2016")
STORIES = ("garden", "harbour", "night")
CONTENTS = {
    "words/garden.csv": b"word,onset,offset\n" * 40,
    "resp/s1/garden.h5": bytes(range(256)) * 300,
    "resp/s1/night.h5": b"n" * 5000,
    "resp/s2/garden.h5": b"g" * 7000,
}


def make_card(contents=CONTENTS, *, patterns=(), listed=True, **changes) -> Card:
    """A card of files in ``bucket/set``."""
    files = []
    for path, content in contents.items() if listed else ():
        parts = path.split("/")
        files.append(
            CardFile(
                path=path,
                n_bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                subject=parts[1] if parts[0] == "resp" else None,
                story=parts[-1].split(".")[0],
            )
        )
    return ALICE.model_copy(
        update={
            "name": "alice2016",
            "source": Source(kind="s3", url="https://example.org", location="bucket/set"),
            "files": tuple(files),
            "file_patterns": tuple(FilePattern(glob=glob, what="responses") for glob in patterns),
            "subjects": ("s1", "s2"),
            "split": StorySplit(kind="stories", train=STORIES[:2], test=STORIES[2:]),
            "terms": None,
            **changes,
        }
    )
