# SPDX-License-Identifier: Apache-2.0
"""Corpora, ablated: streamed, in several processes, the same bytes for the same input, resumed where it stopped.

Passages are dealt to shards in the order of the corpus. A shard is parsed once and every ablation is written from that
parse. The name of a shard's file holds the hash of everything that determines it, so that a second run makes only what is
missing; files appear whole or not at all.
"""

import hashlib
import io
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.protocol import hash_json
from voxelboard.benchmark.stimuli.ablations import VERSION, Counts, ablate, load_ablation
from voxelboard.benchmark.stimuli.passages import Passage, batches, corpus_files, read_passages
from voxelboard.benchmark.stimuli.syntax import ParsedText, Parser, Token, latin_share, load_parser

PASSAGES_PER_SHARD = 256
VALIDATION_SHARE = 0.02  # of the passages, the same ones in every version of a corpus
MANIFEST = "manifest.json"
_LATIN_SHARE = 0.5
_COLUMNS = ("text", "start", "stop", "part", "tag", "morphology", "closings", "sentence")

CorpusProgress = Callable[[int, int], None]  # (shards done, passages done)


@dataclass(frozen=True)
class CorpusRequest:
    """What is to be made.

    Attributes
    ----------
    source : file or folder.
    output : folder; each version of the corpus gets a folder of its ablation's name in it.
    ablations : names of :func:`~voxelboard.benchmark.stimuli.ablations.load_ablation`.
    seed : of the random controls.
    spoken : written as transcripts are: lower case, no punctuation.
    share : of the passages that are used, chosen by the hash of their text.
    exclude : patterns of file names that are left out.
    """

    source: Path
    output: Path
    ablations: tuple[str, ...]
    seed: int = 0
    spoken: bool = False
    share: float = 1.0
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(f"share {self.share}; allowed: above 0, at most 1")
        if not self.ablations:
            raise UserError("no ablation was asked for", "give one or more names")
        if self.source.is_dir() and self.output.resolve().is_relative_to(self.source.resolve()):
            raise UserError(
                f"{self.output} lies in the corpus {self.source}: the next run would read it", "write it elsewhere"
            )


@dataclass(frozen=True)
class Manifest:
    """What one version of a corpus is; ``manifest.json`` beside its files.

    Attributes
    ----------
    shards : names of the files with training text; those of validation have ``validation`` for ``train``.
    sha256 : of the shards' contents, in order.
    skipped : passages in another script.
    """

    ablation: str
    summary: str
    parser: str
    seed: int
    spoken: bool
    share: float
    version: int
    files: tuple[str, ...]
    passages: int
    skipped: int
    counts: Counts
    sha256: str
    shards: tuple[str, ...] = field(default=())


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a corpus folder; raises DataError when there is none."""
    try:
        values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return Manifest(
            **{
                **values,
                "counts": Counts(**values["counts"]),
                "files": tuple(values["files"]),
                "shards": tuple(values["shards"]),
            }
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{folder} holds no whole corpus ({error})", "make it with `voxelboard study corpus`, which resumes"
        ) from error


def training_texts(folder: Path, part: str = "train") -> Iterator[str]:
    """The passages of a corpus, in order; ``part`` is ``train`` or ``validation``."""
    for name in read_manifest(folder).shards:
        with (folder / name.replace(".train.", f".{part}.")).open(encoding="utf-8") as file:
            yield from (line.rstrip("\n") for line in file)


def prepare_corpus(
    request: CorpusRequest, *, workers: int = 1, progress: CorpusProgress = lambda shards, passages: None
) -> dict[str, Manifest]:
    """Make every asked version of a corpus and return the manifests by ablation.

    With one worker everything runs in this process; memory holds ``2 * workers`` shards.

    Raises
    ------
    DataError
        for an empty corpus, a file of which most passages are in another script, text without blanks.
    MissingPrerequisite
        when the parser is not installed, or the corpus is not there.
    """
    parser = load_parser()
    for name in request.ablations:
        load_ablation(name, parser)  # a typing error costs nothing
    files = corpus_files(request.source, request.exclude)
    tally = _Tally()
    jobs = (
        _Job(number, texts, request, parser.name) for number, texts in enumerate(_shards(files, request.share, tally))
    )
    made: dict[str, list[_Made]] = {name: [] for name in request.ablations}
    with _mapper(workers) as run:
        for done, shard in enumerate(run(_make_shard, jobs), start=1):
            for name, part in shard.items():
                made[name].append(part)
            progress(done, tally.passages)
    tally.check()
    return {
        name: _finish(request, name, parts, parser, [path.name for path in files], tally)
        for name, parts in made.items()
    }


@dataclass
class _Tally:
    passages: int = 0
    skipped: int = 0
    by_file: dict[str, list[int]] = field(default_factory=dict)

    def count(self, passage: Passage, skipped: bool) -> None:
        self.passages += not skipped
        self.skipped += skipped
        of_file = self.by_file.setdefault(passage.file, [0, 0])
        of_file[skipped] += len(passage.text)

    def check(self) -> None:
        for name, (kept, skipped) in self.by_file.items():
            _check_script(name, kept, skipped)


def _check_script(name: str, kept: int, skipped: int) -> None:
    if skipped > kept:
        raise DataError(
            f"{name}: {skipped / (kept + skipped):.0%} of the text is in another script than Latin: the parser reads English",
            f"leave the file out: --exclude {name!r}",
        )


def _shards(files: Sequence[Path], share: float, tally: _Tally) -> Iterator[tuple[str, ...]]:
    def kept() -> Iterator[str]:
        for passage in read_passages(files):
            foreign = latin_share(passage.text) < _LATIN_SHARE
            tally.count(passage, foreign)
            if not foreign and passage.fraction < share:
                yield passage.text
            if foreign and sum(tally.by_file[passage.file]) > 100_000:
                _check_script(passage.file, *tally.by_file[passage.file])

    yield from batches(kept(), PASSAGES_PER_SHARD)


@dataclass(frozen=True)
class _Job:
    number: int
    texts: tuple[str, ...]
    request: CorpusRequest
    parser: str

    @property
    def parse_key(self) -> str:
        return hash_json([self.parser, VERSION, list(self.texts)])[:16]

    def key(self, ablation: str) -> str:
        request = self.request
        return hash_json([self.parse_key, ablation, request.seed, request.spoken])[:16]

    def path(self, ablation: str, part: str) -> Path:
        return self.request.output / slug(ablation) / f"{self.number:05d}-{self.key(ablation)}.{part}.txt"


@dataclass(frozen=True)
class _Made:
    name: str
    counts: Counts


def slug(ablation: str) -> str:
    """The folder of an ablation; a map of one's own is named by its hash."""
    return f"own-{hashlib.sha256(ablation.encode()).hexdigest()[:12]}" if "=" in ablation else ablation


def _make_shard(job: _Job) -> dict[str, _Made]:
    """Write the shard's file of every ablation that is missing."""
    made: dict[str, _Made] = {}
    missing = []
    for name in job.request.ablations:
        counts = _read_counts(job.path(name, "counts").with_suffix(".json"))
        if counts is None:
            missing.append(name)
        else:
            made[name] = _Made(job.path(name, "train").name, counts)
    if missing:
        parsed = _parsed(job)
        for name in missing:
            made[name] = _write_version(job, name, parsed)
    return {name: made[name] for name in job.request.ablations}


def _read_counts(path: Path) -> Counts | None:
    try:
        return Counts(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _write_version(job: _Job, name: str, parsed: Sequence[ParsedText]) -> _Made:
    ablation = load_ablation(name, load_parser())
    counts = Counts()
    lines: dict[str, list[str]] = {"train": [], "validation": []}
    for text in parsed:
        ablated, of_text = ablate(text, ablation, job.request.seed, spoken=job.request.spoken)
        counts += of_text
        held_out = Passage("", 0, text.text).fraction / job.request.share < VALIDATION_SHARE
        ablated = " ".join(ablated.split())
        if ablated:
            lines["validation" if held_out else "train"].append(ablated)
    for part, of_part in lines.items():
        content = "".join(line + "\n" for line in of_part).encode()
        replace_file(job.path(name, part), lambda file, content=content: file.write(content))  # type: ignore[misc]
    # last: a shard that has counts is whole
    replace_file(
        job.path(name, "counts").with_suffix(".json"), lambda file: file.write(json.dumps(asdict(counts)).encode())
    )
    return _Made(job.path(name, "train").name, counts)


def _parsed(job: _Job) -> list[ParsedText]:
    """The parse of a shard: read when it was stored, else made and stored (parquet, through ``datasets``)."""
    from datasets import Dataset, load_dataset

    path = job.request.output / "parsed" / f"{job.number:05d}-{job.parse_key}.parquet"
    if path.is_file():
        return _from_columns(load_dataset("parquet", data_files=str(path), split="train", streaming=True))
    parsed = list(load_parser().parse(job.texts))
    table = Dataset.from_dict(_to_columns(parsed))
    buffer = io.BytesIO()
    with _no_bars():
        table.to_parquet(buffer)
    replace_file(path, lambda file: file.write(buffer.getvalue()))
    return parsed


@contextmanager
def _no_bars() -> Iterator[None]:
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


def _to_columns(parsed: Sequence[ParsedText]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {"passage": [text.text for text in parsed]}
    for column in _COLUMNS:
        columns[column] = [[getattr(token, column) for token in text.tokens] for text in parsed]
    return columns


def _from_columns(rows: Iterable[Any]) -> list[ParsedText]:
    return [
        ParsedText(
            row["passage"],
            tuple(Token(*values) for values in zip(*(row[column] for column in _COLUMNS), strict=True)),
        )
        for row in rows
    ]


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[[Any, Iterable[Any]], Iterator[Any]]]:
    if workers <= 1:
        yield map
        return
    # spawned: a fork of a process with threads (torch, the parser) can hang
    pool = multiprocessing.get_context("spawn").Pool(workers)

    def run(function: Any, jobs: Iterable[Any]) -> Iterator[Any]:
        for part in batches(jobs, 2 * workers):
            yield from pool.map(function, part, chunksize=1)

    try:
        yield run
        pool.close()
    except BaseException:
        pool.terminate()
        raise
    finally:
        pool.join()


def _finish(
    request: CorpusRequest, name: str, parts: Sequence[_Made], parser: Parser, files: Sequence[str], tally: _Tally
) -> Manifest:
    folder = request.output / slug(name)
    digest = hashlib.sha256()
    for part in parts:
        for kind in ("train", "validation"):
            digest.update((folder / part.name.replace(".train.", f".{kind}.")).read_bytes())
    manifest = Manifest(
        ablation=name,
        summary=load_ablation(name, parser).summary,
        parser=parser.name,
        seed=request.seed,
        spoken=request.spoken,
        share=request.share,
        version=VERSION,
        files=tuple(files),
        passages=tally.passages,
        skipped=tally.skipped,
        counts=sum((part.counts for part in parts), Counts()),
        sha256=digest.hexdigest(),
        shards=tuple(part.name for part in parts),
    )
    kept = {stem for part in parts for stem in [part.name.split(".")[0]]}
    for path in folder.iterdir():
        if path.name != MANIFEST and path.name.split(".")[0] not in kept:
            path.unlink()  # of an earlier request in the same folder
    text = json.dumps(asdict(manifest), indent=2, sort_keys=True) + "\n"
    replace_file(folder / MANIFEST, lambda file: file.write(text.encode()))
    return manifest
