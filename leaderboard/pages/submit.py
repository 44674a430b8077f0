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
    sections = schema.get("$defs", {})
    parts = [("The file", schema), *((_key_of(name, schema), part) for name, part in sections.items())]
    return [
        {
            "name": plain(name, 60),
            "about": plain(part.get("description") or "", 300),
            "rows": [_field(key, value, part.get("required", ()), schema) for key, value in part["properties"].items()],
        }
        for name, part in parts
        if "properties" in part
    ]


def _key_of(name: str, schema: Mapping[str, Any]) -> str:
    """The key under which a section stands in the file: ``model`` for ``ModelEntry``, ``model.tokenizer`` for its part."""
    places = [("", schema), *((part, held) for part, held in schema.get("$defs", {}).items())]
    for part, held in places:
        for key, value in held.get("properties", {}).items():
            if json.dumps(value).find(f'"#/$defs/{name}"') >= 0:
                return f"{_key_of(part, schema)}.{key}" if part else key
    return name


def _field(key: str, value: Mapping[str, Any], required: Any, schema: Mapping[str, Any]) -> tuple[str, str, str, str]:
    default = value.get("default")
    shown = "" if default is None or key in required else plain(json.dumps(default), 60)
    return (
        plain(key, 40),
        "required" if key in required else shown,
        plain(_kind(value, schema), 160),
        plain(value.get("description") or "", 400),
    )


def _kind(value: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """What is allowed, in words."""
    if "enum" in value:
        return ", ".join(str(item) for item in value["enum"])
    if "const" in value:
        return str(value["const"])
    if "$ref" in value:
        return f"section {_key_of(value['$ref'].rpartition('/')[2], schema)}"
    options = value.get("anyOf") or value.get("oneOf") or value.get("allOf")
    if options:
        return " or ".join(dict.fromkeys(_kind(option, schema) for option in options if option.get("type") != "null"))
    if value.get("type") == "array":
        return f"list of {_kind(value.get('items', {}), schema)}" if value.get("items") else "list"
    if value.get("type") == "object":
        inner = value.get("additionalProperties")
        return f"map to {_kind(inner, schema)}" if isinstance(inner, Mapping) else "map"
    if value.get("format") == "date":
        return "date, YYYY-MM-DD"
    return str(value.get("type", "any"))
