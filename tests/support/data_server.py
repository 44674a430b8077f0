# SPDX-License-Identifier: Apache-2.0
"""A web server and public bucket on this machine, with the faults of real ones: cut lines, throttling, redirects, lies."""

import hashlib
import re
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from local_server import serving


@dataclass
class Fault:
    """What goes wrong at the next request for a path.

    cut_after : bytes sent before the line is cut; status, retry_after : answer that instead; redirect : go there;
    body : send these bytes; no_range : ignore the Range header.
    """

    cut_after: int | None = None
    status: int | None = None
    retry_after: int | None = None
    redirect: str | None = None
    body: bytes | None = None
    no_range: bool = False


@dataclass
class DataServer:
    """``files`` maps paths (``/bucket/key``) to bytes; ``faults`` maps paths to what happens, one a request."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    listing_faults: list[Fault] = field(default_factory=list)
    strange_keys: list[str] = field(default_factory=list)
    page_size: int = 2
    etags: bool = True
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # (path, Range)
    credentials: list[tuple[str, str | None]] = field(default_factory=list)  # (path, Authorization)
    url: str = ""

    def put(self, bucket: str, files: dict[str, bytes]) -> None:
        """Objects of a bucket."""
        for key, content in files.items():
            self.files[f"/{bucket}/{key}"] = content

    def listing(self, bucket: str, query: dict[str, list[str]]) -> bytes:
        """A page of ListObjectsV2."""
        prefix = query.get("prefix", [""])[0]
        keys = sorted(path.removeprefix(f"/{bucket}/") for path in self.files if path.startswith(f"/{bucket}/{prefix}"))
        keys += self.strange_keys
        start = int(query.get("continuation-token", ["0"])[0])
        page = keys[start : start + self.page_size]
        more = start + self.page_size < len(keys)
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><ETag>&quot;{etag_of(self.files.get(f'/{bucket}/{key}', b''))}&quot;</ETag>"
            f"<Size>{len(self.files.get(f'/{bucket}/{key}', b''))}</Size></Contents>"
            for key in page
        )
        following = f"<NextContinuationToken>{start + self.page_size}</NextContinuationToken>" if more else ""
        return (
            f'<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{following}{items}</ListBucketResult>"
        ).encode()


def etag_of(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _handler(server: DataServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            path, query = unquote(parts.path), parse_qs(parts.query)
            if "list-type" in query:
                fault = server.listing_faults.pop(0) if server.listing_faults else Fault()
                self._send(path, fault.body or server.listing(path.strip("/"), query), fault)
                return
            server.requests.append((path, self.headers.get("Range")))
            server.credentials.append((path, self.headers.get("Authorization")))
            fault = server.faults[path].pop(0) if server.faults[path] else Fault()
            content = fault.body if fault.body is not None else server.files.get(path)
            if content is None and fault.redirect is None and fault.status is None:
                self.send_error(404)
                return
            self._send(path, content or b"", fault)

        def _send(self, path: str, content: bytes, fault: Fault) -> None:
            if fault.status is not None:
                self.send_response(fault.status)
                if fault.retry_after is not None:
                    self.send_header("Retry-After", str(fault.retry_after))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if fault.redirect is not None:
                self.send_response(302)
                self.send_header("Location", fault.redirect)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            tag = f'"{etag_of(content)}"'
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            same = self.headers.get("If-Range") in (None, tag)
            start = int(asked[1]) if asked and same and not fault.no_range else 0
            if start >= len(content) > 0 and start:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if server.etags:
                self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:]
            if fault.cut_after is not None:
                self.wfile.write(body[: fault.cut_after])
                self.wfile.flush()
                self.close_connection = True
                return
            self.wfile.write(body)

    return Handler


@contextmanager
def data_server():
    """A running server."""
    server = DataServer()
    with serving(_handler(server)) as server.url:
        yield server
