# SPDX-License-Identifier: Apache-2.0
"""Which files of a data set lie where: from a card, the listing of a bucket, or that of a repository on the hub.

OpenNeuro is read through its public bucket, without an account. Its own client and boto3 are not used: boto3 needs an older
dateutil than the pinned set has, the client did not resolve beside it, and a public bucket needs no more than a listing
and GET.
"""

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError, unknown_name
from voxelboard.benchmark.readers.card_files import wanted_files
from voxelboard.benchmark.readers.card_sources import FilePattern, inside_the_folder
from voxelboard.benchmark.readers.cards import Card, StorySplit, WindowSplit
from voxelboard.runners.fetching.http import read_all

_OPENNEURO_BUCKET = "openneuro.org"
_MAX_LISTING_BYTES = 16 << 20  # of one page: 1,000 keys take about 0.4 MB
_WILD = re.compile(r"[*?\[{]")


def s3_endpoint() -> str:
    """Where buckets are: ``$VOXELBOARD_S3_ENDPOINT`` (a mirror), or Amazon."""
    return os.environ.get("VOXELBOARD_S3_ENDPOINT", "https://s3.amazonaws.com").rstrip("/")


@dataclass(frozen=True)
class RemoteFile:
    """One file to get.

    path : below the data set's folder; n_bytes : None where nobody says; digest : (name of the hash, hexadecimal value);
    archive : unpack it in its folder, then remove it; headers : to send.
    """

    path: str
    url: str
    n_bytes: int | None = None
    digest: tuple[str, str] | None = None
    archive: bool = False
    headers: tuple[tuple[str, str], ...] = ()


def remote_files(
    card: Card, subjects: Collection[str] | None = None, stories: Collection[str] | None = None
) -> list[RemoteFile]:
    """The files of a card, or of some of its subjects and stories. Patterns are looked up in the source's listing.

    Raises
    ------
    UserError
        for a subject or story that the card does not have.
    MissingPrerequisite
        when a listing cannot be had.
    DataError
        for a listing that names paths outside of the folder, or a pattern that nothing matches.
    """
    check_selection(card, subjects, stories)
    files = []
    for file in wanted_files(card.files, subjects, stories):
        url = file.url or _address(card, file.path)
        if url is not None:
            files.append(RemoteFile(file.path, url, file.n_bytes, file.digest, headers=_headers(card)))
    for pattern in card.file_patterns:
        files += _of_pattern(card, pattern, subjects, stories)
    return list({file.path: file for file in files}.values())


def unreachable_files(card: Card) -> list[str]:
    """What the card lists but does not say where to get."""
    if card.source.location is not None:
        return []
    return [
        *(file.path for file in card.files if file.url is None),
        *(pattern.any_name for pattern in card.file_patterns if pattern.archive is None),
    ]


def story_names(card: Card) -> tuple[str, ...]:
    """The stories that ``--stories`` may name."""
    if isinstance(card.split, StorySplit):
        return (*card.split.train, *card.split.test)
    return tuple(card.split.stories) if isinstance(card.split, WindowSplit) else ()


def check_selection(card: Card, subjects: Collection[str] | None, stories: Collection[str] | None) -> None:
    """Raise UserError for a subject or story that the card does not have."""
    for kind, got, known in (("subject", subjects, card.subjects), ("story", stories, story_names(card))):
        for name in got or ():
            if not known:
                raise UserError(f"{card.name} has no {kind} to choose", f"leave the selection by {kind} out")
            if name not in known:
                raise unknown_name(f"{kind} of {card.name}", name, known)


def _of_pattern(
    card: Card, pattern: FilePattern, subjects: Collection[str] | None, stories: Collection[str] | None
) -> Iterator[RemoteFile]:
    if pattern.archive is not None:
        name = pattern.archive.rsplit("/", 1)[1].partition("?")[0]
        yield RemoteFile(inside_the_folder(name), pattern.archive, archive=True)
        return
    if card.source.location is None:
        return
    globs = {
        pattern.fill(subject=subject, story=_story_in_names(card, story))
        for subject in (subjects or card.subjects if "{subject}" in pattern.glob else ("",))
        for story in (stories or story_names(card) or ("*",) if "{story}" in pattern.glob else ("",))
    }
    found = False
    for glob in sorted(globs):
        for file in _listed(card, glob):
            found = True
            yield file
    if not found:
        raise DataError(
            f"{card.name}: nothing in {card.source.location} matches {pattern.any_name} ({pattern.what})",
            "the source has changed, or the selection is empty",
        )


def _story_in_names(card: Card, story: str) -> str:
    """How the names of files spell a story."""
    return (
        card.split.stories[story].task if isinstance(card.split, WindowSplit) and story in card.split.stories else story
    )


def _listed(card: Card, glob: str) -> Iterator[RemoteFile]:
    matches = re.compile(_as_expression(glob)).fullmatch
    entries = _list_hub(card) if card.source.kind == "hf" else _list_bucket(card, _fixed_start(glob))
    for path, n_bytes, digest in entries:
        if matches(path):
            url = _address(card, path)
            if url is None:
                raise DataError(f"{card.name}: a source of the kind {card.source.kind} has no listing")
            yield RemoteFile(path, url, n_bytes, digest, headers=_headers(card))


def _as_expression(glob: str) -> str:
    return "".join({"*": "[^/]*", "?": "[^/]"}.get(character, re.escape(character)) for character in glob)


def _fixed_start(glob: str) -> str:
    match = _WILD.search(glob)
    return glob if match is None else glob[: match.start()]


def _bucket(card: Card) -> tuple[str, str]:
    """Bucket and prefix (empty, or with a slash at its end) of a card's source."""
    location = card.source.location or ""
    if card.source.kind == "openneuro":
        return _OPENNEURO_BUCKET, f"{location}/"
    bucket, _, prefix = location.partition("/")
    return bucket, f"{prefix}/" if prefix else ""


def _address(card: Card, path: str) -> str | None:
    """Where a file of the card's source is."""
    location = card.source.location
    if location is None:
        return None
    if card.source.kind in ("openneuro", "s3"):
        bucket, prefix = _bucket(card)
        return f"{s3_endpoint()}/{bucket}/{quote(prefix + path)}"
    if card.source.kind == "hf":
        from huggingface_hub import hf_hub_url

        repository, _, revision = location.partition("@")
        return hf_hub_url(repository, path, repo_type="dataset", revision=revision)
    return location + quote(path)


def _headers(card: Card) -> tuple[tuple[str, str], ...]:
    """The hub's token, for repositories that a user has access to."""
    if card.source.kind != "hf":
        return ()
    from huggingface_hub import get_token

    token = get_token()
    return (("Authorization", f"Bearer {token}"),) if token else ()


def _list_hub(card: Card) -> Iterator[tuple[str, int | None, tuple[str, str] | None]]:
    """(path, bytes, hash) of all files of a repository: large ones have a hash."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    repository, _, revision = (card.source.location or "").partition("@")
    try:
        items = list(HfApi().list_repo_tree(repository, recursive=True, repo_type="dataset", revision=revision))
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        raise MissingPrerequisite(
            f"{card.name}: the hub does not list {repository}: {error}", "hf auth login, if it is gated"
        ) from error
    except Exception as error:
        if type(error).__module__.startswith("httpx"):  # the HTTP library behind the client is the client's own choice
            raise MissingPrerequisite(f"{card.name}: the hub cannot be reached: {error}") from error
        raise
    for item in items:
        if hasattr(item, "size"):
            lfs = getattr(item, "lfs", None)
            yield _checked(card, item.path), item.size, ("sha256", lfs.sha256) if lfs else None


def _list_bucket(card: Card, start: str) -> Iterator[tuple[str, int | None, tuple[str, str] | None]]:
    """(path, bytes, hash) of the keys that begin with ``start``: ListObjectsV2, page by page."""
    bucket, prefix = _bucket(card)
    token: str | None = None
    while True:
        query = {"list-type": "2", "prefix": prefix + start}
        if token is not None:
            query["continuation-token"] = token
        page = _parse(read_all(f"{s3_endpoint()}/{bucket}/?{urlencode(query)}", _MAX_LISTING_BYTES), card)
        for item in page.findall("{*}Contents"):
            key, size = item.findtext("{*}Key", ""), item.findtext("{*}Size", "")
            if key.endswith("/"):
                continue  # a folder
            if not key.startswith(prefix) or not size.isdecimal():
                raise DataError(f"{card.name}: the listing of {bucket} holds {key!r}, which was not asked for")
            etag = item.findtext("{*}ETag", "").strip('"')
            # the tag of an object that was uploaded in parts is no MD5
            digest = ("md5", etag) if re.fullmatch(r"[0-9a-f]{32}", etag) else None
            yield _checked(card, key.removeprefix(prefix)), int(size), digest
        if page.findtext("{*}IsTruncated") != "true":
            return
        following = page.findtext("{*}NextContinuationToken")
        if not following or following == token:
            raise DataError(f"{card.name}: the listing of {bucket} goes on without saying where")
        token = following


def _parse(text: bytes, card: Card) -> ET.Element:
    if b"<!" in text:  # entities can unfold without bound; S3 sends none
        raise DataError(f"{card.name}: the listing of {card.source.location} is not what a bucket sends")
    try:
        return ET.fromstring(text)  # noqa: S314 - without entities, see above
    except ET.ParseError as error:
        raise DataError(f"{card.name}: the listing of {card.source.location} is damaged: {error}") from error


def _checked(card: Card, path: str) -> str:
    try:
        return inside_the_folder(path)
    except ValueError as error:
        raise DataError(
            f"{card.name}: the listing of {card.source.location} names {path!r}, which leads out of the data set's folder"
        ) from error
