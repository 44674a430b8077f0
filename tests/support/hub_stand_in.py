# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the Hugging Face Hub: its HTTP API for lists of models and single models, on this machine.

It can be slow, answer 429 and 5xx, drop the line, lose a repository and change a commit, as the real one does.
"""

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

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
    """

    models: list[dict[str, Any]] = field(default_factory=list)
    trouble: dict[str, list[int]] = field(default_factory=dict)
    retry_after: str = "0"
    slow: float = 0.0
    gone: set[str] = field(default_factory=set)
    moved: dict[str, str] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


@contextmanager
def hub_stand_in(*models: dict[str, Any]) -> Iterator[Hub]:
    """A running stand-in; its address is ``hub.url``."""
    hub = Hub(list(models))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, hub)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


def _answer(request: BaseHTTPRequestHandler, hub: Hub) -> None:
    parts = urlsplit(request.path)
    path = unquote(parts.path)
    hub.asked[path] += 1
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


def _send(request: BaseHTTPRequestHandler, status: int, body: Any, headers: dict[str, str]) -> None:
    content = json.dumps(body).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(content)))
    for name, value in headers.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(content)
