# SPDX-License-Identifier: Apache-2.0
"""JSON Schema of ``data/board.json``."""

import json
from typing import Any

_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}
_COUNT = {"type": "integer", "minimum": 0}


def _object(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
        **more,
    }


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _map(values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}


def _maybe(value: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [value, {"type": "null"}]}


_INTERVAL = _object(
    {
        "estimate": _NUMBER,
        "standard_error": {"type": "number", "minimum": 0},
        "low": _NUMBER,
        "high": _NUMBER,
        "df": _NUMBER,
        "n": _COUNT,
        "estimator": _TEXT,
    },
    description="A number with its 95 % interval.",
)
_REASON = _object({"reason": _TEXT}, description="Why there is no number. Never 0.")
_SCORE = {"$ref": "#/$defs/score"}
_STATES = ["ranked", "ruler", "unranked", "partial", "failed", "invalidated", "not run"]

_CEILING = _object(
    {"kind": _TEXT, "n_subjects": _COUNT, "mean": _NUMBER, "low": _NUMBER, "high": _NUMBER},
    description="In units of r: mean and range over subjects.",
)
_ROW = _object(
    {
        "submission": _TEXT,
        "revision": _TEXT,
        "weights": {"enum": ["pretrained", "random", "none"]},
        "seed": _COUNT,
        "row": {"enum": ["submission", "baseline"]},
        "display_name": _TEXT,
        "loader": _TEXT,
        "n_parameters": _COUNT,
        "page": {"type": "string", "description": "Address of the page from the root of the board."},
        "state": _object({"name": {"enum": _STATES}, "detail": _TEXT}),
        "rank": _maybe({"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 2, "maxItems": 2}),
        "score": _SCORE,
        "metrics": _map(_SCORE),
        "ceiling": {"anyOf": [_CEILING, _REASON]},
        "beats": _list(_object({"baseline": _TEXT, "beaten": {"type": "boolean"}, "p": _NUMBER, "difference": _SCORE})),
        "tries": _maybe(
            _object(
                {
                    "team": _TEXT,
                    "n": _COUNT,
                    "by_chance": _NUMBER,
                    "next_best": _maybe(_TEXT),
                    "lead": _maybe(_SCORE),
                    "margin": _maybe(_NUMBER),
                    "counts": {"type": "boolean"},
                },
                description="The team's entries in this column; lead of its best over its next best, and what counts as one.",
            )
        ),
        "subjects": _map(_SCORE),
        "rois": _map(_object({"unique": _SCORE, "raw": _SCORE})),
        "chosen_layers": _map(_list(_COUNT)),
        "exposure": {"enum": ["none", "likely", "yes", "unknown"]},
        "verification": _TEXT,
        "failures": _list({"type": "array", "items": _TEXT, "minItems": 2, "maxItems": 2}),
        "digests": _map({"type": "string", "pattern": "^[0-9a-f]{64}$"}),
    }
)
_COLUMN = _object(
    {
        "task": _TEXT,
        "task_version": _COUNT,
        "dataset": _TEXT,
        "dataset_version": _TEXT,
        "ceiling_kind": _TEXT,
        "protocol": _TEXT,
        "protocol_hash": _TEXT,
        "track": _TEXT,
        "kind": {"enum": ["real", "simulated"]},
    },
    description="What may be compared. Rows of different columns may not.",
)
_TABLE = _object(
    {
        "column": _COLUMN,
        "unit": _TEXT,
        "scope": _TEXT,
        "scope_note": _TEXT,
        "subjects": _list(_TEXT),
        "gate": _object({"entries": _COUNT, "scored": _COUNT, "pooled": _COUNT}),
        "n_blocks": _COUNT,
        "block_trs": _COUNT,
        "n_segments": _COUNT,
        "ranked_protocol": {"type": "boolean"},
        "smallest_resolvable": _maybe(_NUMBER),
        "smallest_resolvable_ranked": _maybe(_NUMBER),
        "rulers": _list(_object({"kind": _TEXT, "label": _TEXT, "score": _SCORE})),
        "rows": _list(_ROW),
    }
)
_LOST = _object({"submission": _TEXT, "task": _TEXT, "dataset": _TEXT, "subject": _TEXT, "reason": _TEXT})


def board_schema() -> str:
    """The schema as text, the same for every board."""
    value = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "voxelboard board",
        **_object(
            {
                "schema_version": {"const": 1},
                "kind": {"enum": ["real", "simulated"]},
                "tables": _list(_TABLE),
                "lost": _list(_LOST),
            }
        ),
        "$defs": {"score": {"anyOf": [_INTERVAL, _REASON]}},
    }
    return json.dumps(value, indent=1) + "\n"
