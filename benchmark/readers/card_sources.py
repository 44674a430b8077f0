# SPDX-License-Identifier: Apache-2.0
"""The part of a card that says where the bytes of a data set come from, and how one knows that they are the right ones."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)]
Text = Annotated[str, Field(min_length=1)]

# What ``Source.location`` looks like for each kind that can be fetched.
_LOCATIONS = {
    "openneuro": r"ds\d{6}",
    "s3": r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s/]+)*",
    "https": r"https://[^\s?#]+/",
    "hf": r"[\w.-]+/[\w.-]+@[0-9a-f]{40}",
}


class Strict(BaseModel):
    """Frozen, nothing unknown, nothing converted."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        str_strip_whitespace=True,
    )


class Source(Strict):
    """Where the bytes come from."""

    kind: Literal["openneuro", "s3", "https", "hf", "path", "generated"]
    """``path``: the user has them; ``generated``: computed from a seed."""
    url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    """Where a person finds them."""
    location: Text | None = None
    """Where ``voxelboard data fetch`` finds them: ``ds003020`` (openneuro), ``bucket/prefix`` (s3), a folder's address
    that ends in a slash (https), ``organisation/name@commit`` (hf). Without it they are got by hand."""

    @model_validator(mode="after")
    def _location_is_of_its_kind(self) -> Self:
        if self.location is None:
            return self
        pattern = _LOCATIONS.get(self.kind)
        if pattern is None:
            raise ValueError(f"a source of the kind {self.kind!r} has no location")
        if not re.fullmatch(pattern, self.location):
            raise ValueError(f"location {self.location!r} of a source of the kind {self.kind!r} must match {pattern}")
        return self


def inside_the_folder(path: str) -> str:
    """The path, if it stays below the folder that it starts from; raises ValueError otherwise."""
    parts = PurePosixPath(path)
    if not path or parts.is_absolute() or ".." in parts.parts or any(c in path for c in "\\:\0"):
        raise ValueError("must be a path inside the data set's folder")
    return path


InsidePath = Annotated[Text, AfterValidator(inside_the_folder)]
HttpsUrl = Annotated[str, Field(pattern=r"^https://\S+$")]


class CardFile(Strict):
    """One file that the reader opens."""

    path: InsidePath
    """Relative to the data set's folder, with forward slashes."""
    n_bytes: Annotated[int, Field(ge=0)] | None = None
    """Null where the source publishes a hash and no size."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    sha1: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    """Where the source publishes no SHA-256 (Brain-Score's assemblies)."""
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    """Where the source publishes no other (the keys of OpenNeuro's git-annex are MD5)."""
    subject: Text | None = None
    """Needed for this subject only: who takes one subject of a large data set need not have the others."""
    story: Text | None = None
    """Belongs to this story: ``voxelboard data fetch --stories`` may leave it out."""
    url: HttpsUrl | None = None
    """Where it is, if that does not follow from the source's location."""

    @property
    def digest(self) -> tuple[str, str]:
        """Name of the hash and its hexadecimal value."""
        return next((name, value) for name in ("sha256", "sha1", "md5") if (value := getattr(self, name)))

    @model_validator(mode="after")
    def _one_hash(self) -> Self:
        if sum(value is not None for value in (self.sha256, self.sha1, self.md5)) != 1:
            raise ValueError("give one hash: sha256, or the sha1 or md5 that the source publishes")
        return self


class FilePattern(Strict):
    """Files of which the source publishes neither size nor hash: only that they are there can be checked."""

    glob: InsidePath
    """Relative to the data set's folder; ``*`` stands for anything but a slash, ``{subject}`` and ``{story}`` for names."""
    what: Text
    archive: HttpsUrl | None = None
    """A .tar, .tar.gz, .tgz or .zip that holds them, unpacked into the data set's folder."""

    @property
    def any_name(self) -> str:
        """The pattern with ``*`` for subject and story."""
        return self.fill(subject="*", story="*")

    def fill(self, **names: str) -> str:
        """The pattern with names put in."""
        text = self.glob
        for key, value in names.items():
            text = text.replace(f"{{{key}}}", value)
        return text
