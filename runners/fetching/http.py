# SPDX-License-Identifier: Apache-2.0
"""GET with ranges, redirects that stay on the web, and patience: what a download needs of HTTP."""

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from email.message import Message
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

from voxelboard import __version__
from voxelboard.benchmark.errors import DataError, MissingPrerequisite

TIMEOUT_S = 60.0  # without a byte
MAX_TRIES = 6  # in a row without progress: waits 1, 2, 4, 8 and 16 s
LONGEST_WAIT_S = 60.0
_AGENT = f"voxelboard/{__version__}"
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


Result = TypeVar("Result")


class Interrupted(Exception):
    """The connection broke, or the server is busy: worth another try. ``wait_s`` is what the server asked for."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class RangeRefused(Exception):
    """The server cannot go on where the file on disk ends: start again."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow to the web only, never from https to http, and keep credentials on the host that they are for."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme != "https"):
            raise DataError(
                f"{req.full_url} redirects to {newurl}, which is not followed", "tell who keeps the data set"
            )
        following = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        if following is not None and old.netloc != new.netloc:
            following.remove_header("Authorization")
        return following


@dataclass(frozen=True)
class Answer:
    """A response: where its bytes start, how long the whole file is (None if unknown), its tag, and its bytes."""

    start: int
    n_bytes: int | None
    etag: str | None
    stream: Any

    def chunks(self, size: int = 1 << 18) -> Iterator[bytes]:
        """The bytes in pieces; raises Interrupted when the connection breaks or ends early."""
        done = self.start
        try:
            while chunk := self.stream.read(size):
                done += len(chunk)
                yield chunk
        except (OSError, http.client.HTTPException) as error:
            raise Interrupted(f"the connection broke: {error}") from error
        if self.n_bytes is not None and done < self.n_bytes:
            raise Interrupted(f"the connection ended after {done} of {self.n_bytes} bytes")


@contextmanager
def get(url: str, start: int = 0, etag: str | None = None, headers: Iterable[tuple[str, str]] = ()) -> Iterator[Answer]:
    """Ask for a file from byte ``start`` on, if it is still the one with ``etag``.

    Raises
    ------
    Interrupted
        for what may work in a moment.
    RangeRefused
        when ``start`` lies behind the end.
    MissingPrerequisite
        for an address that does not exist, is not open to everybody, or a host that cannot be reached.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise DataError(f"{url} is not an address on the web")
    sent = {"User-Agent": _AGENT, "Accept-Encoding": "identity", **dict(headers)}
    request = urllib.request.Request(url, headers=sent)  # noqa: S310 - http or https, see above
    if start:
        request.add_header("Range", f"bytes={start}-")
        if etag:
            request.add_header("If-Range", etag)
    try:
        response = urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with closing(error):
            raise _refused(url, error) from None
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        reason = getattr(error, "reason", error)
        raise Interrupted(f"cannot reach {urlsplit(url).netloc}: {reason}") from error
    with response:
        yield _answer(response, start)


def read_all(url: str, max_bytes: int) -> bytes:
    """A short text, such as a listing, tried again while the server is busy.

    Raises
    ------
    MissingPrerequisite
        when it cannot be had.
    DataError
        when it is longer than ``max_bytes``.
    """

    def read() -> bytes:
        with get(url) as answer:
            text = b""
            for chunk in answer.chunks():
                text += chunk
                if len(text) > max_bytes:
                    raise DataError(f"{url} sends more than {max_bytes} bytes, which is no listing")
            return text

    return patiently(read)


def patiently(
    attempt: Callable[[], Result],
    progressed: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], None] | None = None,
) -> Result:
    """Call ``attempt`` until it is not interrupted; give up after ``MAX_TRIES`` in a row without progress.

    Raises
    ------
    MissingPrerequisite
        when it gave up.
    """
    tries = 0
    while True:
        try:
            return attempt()
        except Interrupted as error:
            tries = 1 if progressed() else tries + 1
            if tries >= MAX_TRIES:
                raise MissingPrerequisite(
                    f"{error} ({tries} tries)", "the same command goes on where this one stopped"
                ) from error
            wait = 2.0 ** (tries - 1) if error.wait_s is None else error.wait_s
            (sleep or time.sleep)(min(wait, LONGEST_WAIT_S))


def _answer(response: Any, start: int) -> Answer:
    length = response.headers.get("Content-Length")
    n_bytes = int(length) if length and length.isdecimal() else None
    tag = response.headers.get("ETag")
    strong = tag if tag and not tag.startswith("W/") else None
    if response.status != 206:
        return Answer(0, n_bytes, strong, response)
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if match is None or int(match[1]) != start:
        raise RangeRefused
    return Answer(start, None if match[2] == "*" else int(match[2]), strong, response)


def _refused(url: str, error: urllib.error.HTTPError) -> Exception:
    if error.code in _BUSY:
        wait = error.headers.get("Retry-After", "")
        return Interrupted(
            f"{urlsplit(url).netloc} answers {error.code} {error.reason}", float(wait) if wait.isdecimal() else None
        )
    if error.code == 416:
        return RangeRefused()
    hints = {
        401: "it needs an account: see the data set's card for its terms",
        403: "it is not open to everybody: see the data set's card for its terms",
        404: "the source has changed: get the file by hand and use voxelboard data add",
    }
    return MissingPrerequisite(f"{url} answers {error.code} {error.reason}", hints.get(error.code, ""))
