# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the Hugging Face hub's HTTP API on this machine: makes data set repositories and takes commits."""

import base64
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from local_server import git_blob, serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """``repositories`` maps names to their files; ``token`` is the only one that may write."""

    token: str = "secret"
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def _answer(self, value: object, status: int = 200) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _repository(self, path: str) -> str:
            return "/".join(path.split("/")[3:5])

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            hub.requests.append(("GET", path))
            name = self._repository(path)
            if name not in hub.repositories:
                self._answer({"error": "Repository not found"}, 404)
            elif "/tree/" in path:
                self._answer(
                    [
                        {"type": "file", "path": p, "size": len(b), "oid": git_blob(b)}
                        for p, b in hub.repositories[name].items()
                    ]
                )
            else:
                siblings = [{"rfilename": p} for p in hub.repositories[name]]
                self._answer({"id": name, "sha": COMMIT, "siblings": siblings, "private": hub.private[name]})

        def do_POST(self) -> None:
            path = urlsplit(self.path).path
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.requests.append(("POST", path))
            if self.headers.get("Authorization") != f"Bearer {hub.token}":
                self._answer({"error": "Invalid credentials"}, 401)
            elif path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}"
                assert asked["type"] == "dataset"
                exists = name in hub.repositories
                hub.repositories.setdefault(name, {})
                hub.private[name] = bool(asked.get("private"))
                self._answer({"url": f"{hub.url}/datasets/{name}", "name": name}, 409 if exists else 200)
            elif path == "/api/validate-yaml":
                self._answer({"errors": [], "warnings": []})
            elif "/preupload/" in path:
                files = json.loads(body)["files"]
                self._answer(
                    {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
                )
            elif "/commit/" in path:
                self._commit(self._repository(path), body)
            else:
                self._answer({"error": f"no such path {path}"}, 404)

        def _commit(self, name: str, body: bytes) -> None:
            files = hub.repositories[name]
            for line in body.splitlines():
                operation = json.loads(line)
                value = operation["value"]
                if operation["key"] == "file":
                    assert value["encoding"] == "base64"
                    files[value["path"]] = base64.b64decode(value["content"])
                elif operation["key"] == "deletedFile":
                    del files[value["path"]]
            self._answer(
                {"success": True, "commitOid": COMMIT, "commitUrl": f"{hub.url}/datasets/{name}/commit/{COMMIT}"}
            )

    return Handler


@contextmanager
def hub_server():
    """A running hub."""
    hub = Hub()
    with serving(_handler(hub)) as hub.url:
        yield hub
