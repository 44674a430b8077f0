# SPDX-License-Identifier: Apache-2.0
"""How to get onto the board: the submission file, made from its schema."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from voxelboard._resources import entries_folder
from voxelboard.leaderboard.text import plain

EXAMPLE = """\
schema_version: 1
model:
  source: hf
  id: your-org/your-model
  revision: main            # voxelboard check --fix writes the commit
  loader: causal            # causal, masked, seq2seq, sentence, static …
  dtype: float32
tasks: [narrative]
metadata:
  display_name: Your Model 1B
  n_parameters: 1000000000
  stimulus_exposure: {narrative: unknown}
  openness: weights
submitter: {name: Your Name, relation: author}
"""


def submit_context() -> dict[str, Any]:
    """Values for ``submit.html.j2``."""
    return {"example": EXAMPLE, "sections": submission_fields()}


@cache
def submission_fields() -> list[dict[str, Any]]:
    """The sections of a submission and their fields, from the committed schema; empty where it is not shipped."""
    path = entries_folder() / "schema.json"
    if not path.is_file():
        return []
    schema = json.loads(path.read_text(encoding="utf-8"))
    parts = [("submission", schema), *((name, part) for name, part in schema.get("$defs", {}).items())]
    return [
        {
            "name": plain(name, 40),
            "about": plain(part.get("description") or "", 300),
            "rows": [_field(key, value, part.get("required", ())) for key, value in part["properties"].items()],
        }
        for name, part in parts
        if "properties" in part
    ]


def _field(key: str, value: Mapping[str, Any], required: Any) -> tuple[str, str, str, str]:
    default = value.get("default")
    shown = "" if default is None or key in required else plain(json.dumps(default), 60)
    return (
        plain(key, 40),
        "required" if key in required else shown,
        plain(_kind(value), 160),
        plain(value.get("description") or "", 400),
    )


def _kind(value: Mapping[str, Any]) -> str:
    """What is allowed, in words."""
    if "enum" in value:
        return ", ".join(str(item) for item in value["enum"])
    if "const" in value:
        return str(value["const"])
    if "$ref" in value:
        return f"section {value['$ref'].rpartition('/')[2]}"
    options = value.get("anyOf") or value.get("oneOf") or value.get("allOf")
    if options:
        return " or ".join(dict.fromkeys(_kind(option) for option in options if option.get("type") != "null"))
    if value.get("type") == "array":
        return f"list of {_kind(value.get('items', {}))}" if value.get("items") else "list"
    if value.get("type") == "object":
        inner = value.get("additionalProperties")
        return f"map to {_kind(inner)}" if isinstance(inner, Mapping) else "map"
    if value.get("format") == "date":
        return "date, YYYY-MM-DD"
    return str(value.get("type", "any"))
