# SPDX-License-Identifier: Apache-2.0
"""A folder that is a Hugging Face data set of records: parquet, the records themselves, and a card."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.readers.cards import list_cards, load_card
from voxelboard.benchmark.records import Record, load_records, statistics_path, to_json
from voxelboard.leaderboard.visibility import is_public, published
from voxelboard.runners.publishing.tables import RECORD_COLUMNS, SCORE_COLUMNS, arrow_table, record_rows, score_rows

_README = "README.md"
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))


@dataclass(frozen=True)
class Exported:
    """What was written to ``folder``, and how many records were held back because they are not public."""

    folder: Path
    n_records: int
    n_scores: int
    n_held_back: int


def export_dataset(
    results: Path, folder: Path, *, today: date | None, statistics: bool = False, private: bool = False
) -> Exported:
    """Write the records of ``results`` as a data set. The same records give the same bytes.

    Parameters
    ----------
    folder : empty, new, or written by this function before.
    today : embargoes that have ended by then are public.
    statistics : also copy the block statistics (``.npz``), from which anyone can score again.
    private : also records that are private or under embargo: not to be published.

    Raises
    ------
    UserError
        when there is nothing to export, or ``folder`` holds something else.
    """
    located = sorted(load_records(results), key=lambda item: item[0].as_posix())
    kept = [(path, record) for path, record in located if private or is_public(record.model.visibility, today)]
    if not kept:
        raise UserError(f"there are no public records in {results}", "voxelboard run writes some")
    if folder.exists() and any(folder.iterdir()) and not _is_ours(folder):
        raise UserError(f"{folder} holds something else than an export", "choose an empty folder with --into")
    if folder.exists():
        shutil.rmtree(folder)
    records = [published(record) for _, record in kept]
    cells, scores = list(record_rows(records)), list(score_rows(records))
    _write_parquet(folder / "data" / "records.parquet", cells, RECORD_COLUMNS)
    _write_parquet(folder / "data" / "scores.parquet", scores, SCORE_COLUMNS)
    for (path, _), record in zip(kept, records, strict=True):
        place = folder / "records" / path.relative_to(results)
        text = to_json(record)
        replace_file(place, lambda stream, text=text: stream.write(text.encode()))  # type: ignore[misc]
        if statistics and statistics_path(path).is_file():
            shutil.copyfile(statistics_path(path), statistics_path(place))
    card = dataset_card(records, n_scores=len(scores), statistics=statistics)
    replace_file(folder / _README, lambda stream: stream.write(card.encode()))
    return Exported(folder, len(records), len(scores), len(located) - len(kept))


def dataset_card(records: Sequence[Record], *, n_scores: int, statistics: bool) -> str:
    """The README with the metadata that the hub reads, what each column is, and whom to cite."""
    size = next((name for limit, name in _SIZES if n_scores < limit), "n>1M")
    names = sorted({record.dataset.name for record in records if record.dataset})
    cells = Counter(
        (r.task, r.dataset.name if r.dataset else "-", r.dataset.kind if r.dataset else "-") for r in records
    )
    table = "\n".join(f"| {task} | `{name}` | {kind} | {n} |" for (task, name, kind), n in sorted(cells.items()))
    shipped = (
        "and beside each record its block statistics (`.npz`), from which anyone can score again" if statistics else ""
    )
    return f"""---
license: apache-2.0
pretty_name: voxelboard records
tags:
- fMRI
- neuroscience
- encoding-models
- language-models
- leaderboard
size_categories:
- {size}
configs:
- config_name: records
  default: true
  data_files:
  - split: records
    path: data/records.parquet
- config_name: scores
  data_files:
  - split: scores
    path: data/scores.parquet
---

# voxelboard records

How well language models predict human brain activity: {len(records)} records of voxelboard, one a model, task, data set and
subject, with {n_scores} scores. `records/` holds the records themselves as JSON {shipped}.

```python
from datasets import load_dataset

cells = load_dataset("ORGANISATION/NAME", "records", split="records")
scores = load_dataset("ORGANISATION/NAME", "scores", split="scores")
```

Compare scores of equal `task`, `dataset`, `dataset_version` and `protocol_hash` only, never simulated with real ones, and pairs of
models by paired differences (`voxelboard compare`), not by their intervals. A null estimate has a reason; it is not zero.

| task | data set | kind | records |
|---|---|---|---|
{table}

## records: one row a cell

{_columns(RECORD_COLUMNS)}

## scores: one row a score

{_columns(SCORE_COLUMNS)}

## Cite

The brain data are their authors' work; no brain data are in this repository.

```bibtex
{_citations(names)}
```
"""


def _columns(columns: Mapping[str, tuple[str, str]]) -> str:
    lines = [f"| `{name}` | {kind} | {what} |" for name, (kind, what) in columns.items()]
    return "\n".join(["| column | type | |", "|---|---|---|", *lines])


def _citations(names: Sequence[str]) -> str:
    known = list_cards()
    cards = {name.partition(":")[0] for name in names} & set(known)
    entries = dict.fromkeys(load_card(name).citation.bibtex.strip() for name in sorted(cards))
    return "\n\n".join(entries) or "% data sets of a laboratory's own"


def _write_parquet(path: Path, rows: Sequence[dict[str, Any]], columns: dict[str, tuple[str, str]]) -> None:
    from pyarrow import parquet

    table = arrow_table(rows, columns)
    replace_file(path, lambda stream: parquet.write_table(table, stream, compression="zstd"))


def _is_ours(folder: Path) -> bool:
    readme = folder / _README
    return readme.is_file() and "pretty_name: voxelboard records" in readme.read_text(encoding="utf-8")[:300]
