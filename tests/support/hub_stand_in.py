# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the Hugging Face Hub: its HTTP API for lists of models, single models and their files, on this machine.

It can be slow, answer 429 and 5xx, drop the line, lose a repository and change a commit, as the real one does.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from local_server import git_blob, serving

PAGE = 100


def sha(name: str, version: int = 0) -> str:
    return hashlib.sha1(f"{name}@{version}".encode()).hexdigest()


def model(name: str, number: int = 0, **changes: Any) -> dict[str, Any]:
    """A model as the hub describes it: open, small, of an architecture that is known."""
    plain = {
        "_id": f"{number:024x}",
        "id": name,
        "author": name.partition("/")[0],
        "sha": sha(name),
        "createdAt": "2026-03-01T00:00:00.000Z",
        "lastModified": "2026-03-02T00:00:00.000Z",
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 10_000 - number,
        "likes": 1,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["transformers", "safetensors", "license:apache-2.0"],
        "config": {"architectures": ["LlamaForCausalLM"], "model_type": "llama"},
        "cardData": {"license": "apache-2.0", "datasets": ["corpus"]},
        "safetensors": {"parameters": {"F32": 1_000_000 + number}, "total": 1_000_000 + number},
        "siblings": [{"rfilename": "config.json"}, {"rfilename": "model.safetensors"}],
    }
    return {**plain, **changes}


@dataclass
class Hub:
    """What the stand-in knows and how it behaves; change it while it runs.

    Attributes
    ----------
    trouble : path (of ``/api/models`` or ``/api/models/org/name``) -> statuses of its next answers; 0 drops the line.
    slow : seconds before each answer.
    files : name of a model -> path in its repository -> content, at its one commit; :meth:`hold` fills it.
    gated : models whose files nobody may have.
    """

    models: list[dict[str, Any]] = field(default_factory=list)
    trouble: dict[str, list[int]] = field(default_factory=dict)
    retry_after: str = "0"
    slow: float = 0.0
    gone: set[str] = field(default_factory=set)
    moved: dict[str, str] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    asked: Counter[str] = field(default_factory=Counter)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def hold(self, name: str, folder: Path) -> str:
        """Offer the files of a checkpoint as the model ``name``; returns its commit."""
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        self.files[name] = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        self.models.append(model(name, siblings=[{"rfilename": path} for path in self.files[name]]))
        return sha(name)


@contextmanager
def hub_stand_in(*models: dict[str, Any]) -> Iterator[Hub]:
    """A running stand-in; its address is ``hub.url``."""
    hub = Hub(list(models))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, hub)

        def do_HEAD(self) -> None:
            _answer(self, hub)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with serving(Handler) as hub.url:
        yield hub


def _answer(request: BaseHTTPRequestHandler, hub: Hub) -> None:
    parts = urlsplit(request.path)
    path = unquote(parts.path)
    hub.asked[path if request.command == "GET" else f"{request.command} {path}"] += 1
    hub.headers.append(dict(request.headers))
    time.sleep(hub.slow)
    statuses = hub.trouble.get(path, [])
    if statuses:
        status = statuses.pop(0)
        if status == 0:
            request.close_connection = True
            return
        _send(request, status, {"error": f"trouble {status}"}, {"Retry-After": hub.retry_after})
    elif path == "/api/models":
        _list(request, hub, {name: values[-1] for name, values in parse_qs(parts.query).items()})
    elif "/resolve/" in path:
        _send_file(request, hub, path.strip("/"))
    elif path.startswith("/api/models/") and any(part in path for part in ("/tree/", "/revision/")):
        _describe(request, hub, path.removeprefix("/api/models/"))
    elif path.startswith("/api/models/"):
        name = path.removeprefix("/api/models/")
        found = next((one for one in hub.models if one["id"] == name and name not in hub.gone), None)
        if found is None:
            _send(request, 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        else:
            _send(request, 200, {**found, "sha": hub.moved.get(name, found["sha"])}, {})
    else:
        _send(request, 404, {"error": "no such address"}, {})


def _list(request: BaseHTTPRequestHandler, hub: Hub, query: dict[str, str]) -> None:
    found = [
        one
        for one in sorted(hub.models, key=lambda one: -one["downloads"])
        if query.get("pipeline_tag") in (None, one["pipeline_tag"]) and query.get("author") in (None, one["author"])
    ]
    start, size = int(query.get("cursor", 0)), min(PAGE, int(query.get("limit", PAGE)))
    headers = {}
    if start + size < len(found):
        rest = "&".join(f"{name}={value}" for name, value in query.items() if name != "cursor")
        headers["Link"] = f'<{hub.url}/api/models?{rest}&cursor={start + size}>; rel="next"'
    _send(request, 200, found[start : start + size], headers)


def _describe(request: BaseHTTPRequestHandler, hub: Hub, path: str) -> None:
    """The files of a repository at its commit, as a tree or as a description."""
    name, what, commit = path.rsplit("/", 2)
    files = hub.files.get(name)
    if name in hub.gone:
        _send(request, 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
    elif name in hub.gated:
        _send(request, 403, {"error": "Access is restricted"}, {"X-Error-Code": "GatedRepo"})
    elif files is None or commit != sha(name):
        _send(request, 404, {"error": "Revision not found"}, {"X-Error-Code": "RevisionNotFound"})
    elif what == "tree":
        tree = [{"type": "file", "path": p, "size": len(b), "oid": git_blob(b)} for p, b in files.items()]
        _send(request, 200, tree, {})
    else:
        _send(request, 200, {**model(name), "siblings": [{"rfilename": p} for p in files]}, {})


def _send_file(request: BaseHTTPRequestHandler, hub: Hub, path: str) -> None:
    name, _, rest = path.partition("/resolve/")
    commit, _, file = rest.partition("/")
    content = None if name in hub.gone | hub.gated else hub.files.get(name, {}).get(file)
    if content is None or commit != sha(name):
        _send(request, 404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        return
    request.send_response(200)
    headers = {"ETag": f'"{git_blob(content)}"', "X-Repo-Commit": commit, "Content-Length": str(len(content))}
    for header, value in headers.items():
        request.send_header(header, value)
    request.end_headers()
    if request.command == "GET":
        request.wfile.write(content)


def _send(request: BaseHTTPRequestHandler, status: int, body: Any, headers: dict[str, str]) -> None:
    content = json.dumps(body).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(content)))
    for name, value in headers.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(content)
