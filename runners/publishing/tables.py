# SPDX-License-Identifier: Apache-2.0
"""Records as two tables: one row a cell, and one row a score. Typed columns, null where there is no number."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from voxelboard.benchmark.records import Estimate, Record, to_json
from voxelboard.leaderboard.visibility import published

TEXT, INTEGER, NUMBER, YES_NO = "text", "integer", "number", "yes or no"

# column -> (type, what it is); the order is that of the files
_CELL = {
    "cell": (TEXT, "digest of the record, the key of both tables"),
    "task": (TEXT, "narrative, drama, captions or ablation"),
    "dataset": (TEXT, "data set, with its variant"),
    "dataset_version": (TEXT, "version of its card"),
    "kind": (TEXT, "real or simulated: never compare the two"),
    "subject": (TEXT, "as the card spells it"),
    "submission": (TEXT, "organisation/name of the model's entry"),
    "row": (TEXT, "submission, or baseline of the harness"),
    "revision": (TEXT, "commit or hash of the weights that were read"),
}
RECORD_COLUMNS = {
    **_CELL,
    "status": (TEXT, "success, error, ..."),
    "error": (TEXT, "class of the failure, or null"),
    "partial": (YES_NO, "scored on a part of the stimuli: never ranked"),
    "invalidated": (TEXT, "why the scores no longer hold, or null"),
    "verification": (TEXT, "self-reported, schema-verified, spot-checked or re-run"),
    "display_name": (TEXT, "how boards call the model"),
    "loader": (TEXT, "how it is read"),
    "weights": (TEXT, "pretrained, random or none"),
    "seed": (INTEGER, "of random weights"),
    "n_parameters": (INTEGER, ""),
    "n_layers": (INTEGER, ""),
    "track": (TEXT, "fixed or open"),
    "protocol": (TEXT, "name of the measurement"),
    "protocol_hash": (TEXT, "of the constants behind the scores: equal hashes may be compared"),
    "ceiling_kind": (TEXT, "how the explainable part is known"),
    "row_unit": (TEXT, "TR, image or sentence"),
    "n_train": (INTEGER, "rows"),
    "n_test": (INTEGER, "rows"),
    "n_voxels": (INTEGER, ""),
    "unique": (NUMBER, "the headline: beyond the confounds"),
    "unique_low": (NUMBER, "95 % interval"),
    "unique_high": (NUMBER, "95 % interval"),
    "record": (TEXT, "the whole record as JSON"),
}
SCORE_COLUMNS = {
    **_CELL,
    "score": (TEXT, "unique, normalised, raw_r, floor, ceiling, ..."),
    "roi": (TEXT, "region, or null for all scored regions"),
    "facet_axis": (TEXT, "level, method, condition, ... or null"),
    "facet_value": (TEXT, "which one, or null"),
    "layer": (INTEGER, "null, or the layer whose test score this is: shown, never used to choose"),
    "estimate": (NUMBER, "null where there is none: see reason"),
    "standard_error": (NUMBER, ""),
    "low": (NUMBER, "95 % interval"),
    "high": (NUMBER, "95 % interval"),
    "p": (NUMBER, "one-sided, where it was tested"),
    "n": (INTEGER, "test blocks"),
    "unit": (TEXT, "H, r, pooled r or FVE"),
    "estimator": (TEXT, "how number and interval were computed"),
    "reason": (TEXT, "why there is no number"),
}


def record_rows(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """One row a cell, without the command line that made it."""
    for record in records:
        stamp, model = record.dataset, record.model
        unique = record.scores.get("unique")
        yield {
            **_cell(record),
            "status": record.status,
            "error": record.error.kind if record.error else None,
            "partial": record.partial,
            "invalidated": record.invalidated,
            "verification": record.verification,
            "display_name": model.display_name,
            "loader": model.loader,
            "weights": model.weights,
            "seed": model.seed,
            "n_parameters": model.n_parameters,
            "n_layers": model.n_layers,
            "track": model.track,
            "protocol": record.protocol.name,
            "protocol_hash": record.protocol.hash,
            "ceiling_kind": stamp.ceiling_kind if stamp else None,
            "row_unit": stamp.row_unit if stamp else None,
            "n_train": stamp.n_train if stamp else None,
            "n_test": stamp.n_test if stamp else None,
            "n_voxels": stamp.n_voxels if stamp else None,
            "unique": unique.estimate if unique else None,
            "unique_low": unique.low if unique else None,
            "unique_high": unique.high if unique else None,
            "record": json.dumps(json.loads(to_json(published(record))), sort_keys=True, separators=(",", ":")),
        }


def score_rows(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """One row a score: over all regions, by region, by facet, and of every layer."""
    for record in records:
        cell = _cell(record)
        for name, roi, axis, value, layer, estimate in _estimates(record):
            yield {
                **cell,
                "score": name,
                "roi": roi,
                "facet_axis": axis,
                "facet_value": value,
                "layer": layer,
                **{key: getattr(estimate, key) for key in list(SCORE_COLUMNS)[-9:]},
            }


def arrow_table(rows: Sequence[dict[str, Any]], columns: dict[str, tuple[str, str]]) -> Any:
    """The rows as a ``pyarrow.Table``."""
    import pyarrow as pa

    types = {TEXT: pa.string(), INTEGER: pa.int64(), NUMBER: pa.float64(), YES_NO: pa.bool_()}
    schema = pa.schema([(name, types[kind]) for name, (kind, _) in columns.items()])
    return pa.Table.from_pylist(list(rows), schema=schema)


def _cell(record: Record) -> dict[str, Any]:
    stamp, model = record.dataset, record.model
    return {
        "cell": record.digest,
        "task": record.task,
        "dataset": stamp.name if stamp else None,
        "dataset_version": stamp.version if stamp else None,
        "kind": stamp.kind if stamp else None,
        "subject": record.subject,
        "submission": model.submission,
        "row": model.row,
        "revision": model.revision,
    }


def _estimates(
    record: Record,
) -> Iterator[tuple[str, str | None, str | None, str | None, int | None, Estimate]]:
    for name, estimate in sorted(record.scores.items()):
        yield name, None, None, None, None, estimate
    for roi, scores in sorted(record.by_roi.items()):
        for name, estimate in sorted(scores.items()):
            yield name, roi, None, None, None, estimate
    for facet in record.facets:
        for name, estimate in sorted(facet.scores.items()):
            yield name, facet.roi, facet.axis, facet.value, None, estimate
    for roi, profile in sorted(record.layers.items()):
        for layer, estimate in enumerate(profile.test):
            yield "unique", roi, None, None, layer, estimate
