# SPDX-License-Identifier: Apache-2.0
"""From a predicted embedding to the captions nearest to it, exactly, in libraries of millions of captions.

A library lies on disk as one array of embeddings and one file of texts; it is read once in pieces of bounded size, and a
matrix product with all queries scores each piece. Nothing is approximated. Three different numbers are called a rank in
the field, so each has a name of its own here: the rank of the true caption among candidates
(:func:`voxelboard.benchmark.statistics.geometry.match_ranks`), how often it is among the first k, and the rank of a test
image among the test images when these are sorted by their own prediction's distance (:func:`prediction_quality_ranks`,
what Doerig et al. 2025 plot). The last says which images decode well, not how well they do.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.errors import DataError, InvalidNumbers, MissingPrerequisite, UserError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Metric = Literal["cosine", "correlation"]

_PIECE_BYTES = 128 * 2**20  # of library rows and of their similarities, each
_EMBEDDINGS, _TEXTS, _NOTE = "embeddings.npy", "captions.txt", "library.json"


@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest library entries of every query, best first.

    indices : (n_queries, k); similarity : (n_queries, k) cosine or correlation. Equal similarities: the earlier entry.
    """

    indices: IntArray
    similarity: FloatArray


class CaptionLibrary:
    """Captions and their embeddings on disk: ``embeddings.npy`` (n_captions, n_features), ``captions.txt`` one a line.

    Embeddings are memory-mapped, texts are found by their offsets: opening a library of millions takes no memory.
    """

    def __init__(self, folder: Path) -> None:
        note = folder / _NOTE
        if not note.is_file():
            raise MissingPrerequisite(f"there is no caption library in {folder}", "make one with write_library")
        try:
            content = json.loads(note.read_text(encoding="utf-8"))
            self.embeddings: NDArray[Any] = np.load(folder / _EMBEDDINGS, mmap_mode="r", allow_pickle=False)
            self.model = str(content["model"])
            n_captions = int(content["n_captions"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder} does not hold a caption library: {error}", "make it again") from error
        self._texts = folder / _TEXTS
        self._offsets = _line_offsets(self._texts)
        if not len(self.embeddings) == len(self._offsets) - 1 == n_captions:
            raise DataError(
                f"{folder}: {len(self.embeddings)} embeddings, {len(self._offsets) - 1} captions, {n_captions} noted",
                "the library is damaged: make it again",
            )

    def __len__(self) -> int:
        return len(self.embeddings)

    def texts(self, indices: Sequence[int] | IntArray) -> list[str]:
        """The captions of some entries, in the order asked."""
        with self._texts.open("rb") as file:
            found = []
            for index in np.asarray(indices, dtype=np.int64).tolist():
                file.seek(int(self._offsets[index]))
                found.append(file.read(int(self._offsets[index + 1] - self._offsets[index])).decode().rstrip("\n"))
        return found


def write_library(
    folder: Path,
    captions: Sequence[str],
    embed: Callable[[Sequence[str]], NDArray[Any]],
    model: str,
    *,
    batch: int = 4096,
    progress: Callable[[int, int], None] | None = None,
) -> CaptionLibrary:
    """Embed captions and lay the library down, float16, batch by batch: memory holds one batch.

    Parameters
    ----------
    embed : texts -> (n_texts, n_features); model : what embedded, for the note.

    Raises
    ------
    DataError
        for a caption that is empty or has a line break; InvalidNumbers for an embedding that is not finite.
    """
    bad = [i for i, text in enumerate(captions) if not text.strip() or "\n" in text or "\r" in text]
    if bad or not captions:
        raise DataError(f"caption {bad[0] if bad else 0} of the library is empty or has a line break")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _NOTE).unlink(missing_ok=True)
    table: np.memmap[Any, Any] | None = None
    for start in range(0, len(captions), batch):
        found = np.asarray(embed(captions[start : start + batch]))
        if table is None:
            shape = (len(captions), found.shape[1])
            table = np.lib.format.open_memmap(folder / _EMBEDDINGS, mode="w+", dtype=np.float16, shape=shape)
        half = found.astype(np.float16)
        if not np.isfinite(half).all():
            raise InvalidNumbers(
                f"an embedding of captions {start} to {start + len(found) - 1} is not finite in float16"
            )
        table[start : start + len(found)] = half
        if progress is not None:
            progress(start + len(found), len(captions))
    if table is not None:
        table.flush()
    text = "".join(f"{caption}\n" for caption in captions)
    replace_file(folder / _TEXTS, lambda file: file.write(text.encode()))
    note = json.dumps({"model": model, "n_captions": len(captions)}) + "\n"
    replace_file(folder / _NOTE, lambda file: file.write(note.encode()))
    return CaptionLibrary(folder)


def nearest(
    queries: NDArray[Any],
    library: NDArray[Any],
    k: int,
    *,
    metric: Metric = "cosine",
    device: torch.device | str | None = None,
    piece_bytes: int = _PIECE_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> Nearest:
    """The ``k`` nearest library entries of each query; exact.

    Parameters
    ----------
    queries : (n_queries, n_features); library : (n_entries, n_features), may be a memory map of any float type.
    piece_bytes : bound on the library rows in memory at a time; the result does not depend on it.

    Raises
    ------
    UserError
        for ``k`` that is not between 1 and the number of entries, and embeddings of another width.
    InvalidNumbers
        for embeddings that are not finite, or without length.
    """
    if not 1 <= k <= len(library):
        raise UserError(f"k = {k}; a library of {len(library)} captions allows 1 to {len(library)}")
    where = torch.device("cpu" if device is None else device)
    asked = _unit(queries, metric, where, "query")
    best = torch.full((len(asked), 0), -torch.inf, device=where)
    index = torch.zeros((len(asked), 0), dtype=torch.int64, device=where)
    for start, rows in _pieces(library, asked, metric, piece_bytes):
        scores = asked @ rows.T
        # a stable order makes the earlier of two equal entries win, whatever the pieces
        part = _top(torch.cat([best, scores], dim=1), k)
        numbers = torch.arange(start, start + len(rows), device=where).expand(len(asked), -1)
        index = torch.cat([index, numbers], dim=1).gather(1, part)
        best = torch.cat([best, scores], dim=1).gather(1, part)
        if progress is not None:
            progress(start + len(rows), len(library))
    return Nearest(index.cpu().numpy(), best.double().cpu().numpy())


def _top(scores: torch.Tensor, k: int) -> torch.Tensor:
    """(n_queries, k) columns of the greatest values, equal ones in their order."""
    k = min(k, scores.shape[1])
    floor = scores.topk(k, dim=1).values[:, -1:]
    # few columns reach the k-th value: only those are sorted
    reach = int((scores >= floor).sum(1).max())
    chosen = (scores >= floor).to(torch.int8).topk(reach, dim=1).indices.sort(dim=1).values
    order = scores.gather(1, chosen).sort(dim=1, descending=True, stable=True).indices[:, :k]
    return chosen.gather(1, order)


def similarity_table(
    queries: NDArray[Any], gallery: NDArray[Any], metric: Metric = "cosine", device: torch.device | str | None = None
) -> FloatArray:
    """(n_queries, n_gallery) similarities, for the ranks and top-k of :mod:`..statistics.geometry`."""
    where = torch.device("cpu" if device is None else device)
    products = _unit(queries, metric, where, "query") @ _unit(gallery, metric, where, "gallery").T
    return np.asarray(products.double().cpu().numpy())


def ranks_in_library(
    queries: NDArray[Any],
    truths: NDArray[Any],
    library: NDArray[Any],
    *,
    metric: Metric = "cosine",
    device: torch.device | str | None = None,
    piece_bytes: int = _PIECE_BYTES,
) -> FloatArray:
    """(n_queries,) candidate rank of the true embedding when it is added to the library: 0 is best, ties count half.

    Parameters
    ----------
    truths : (n_queries, n_features) the embedding that each query should have found.
    """
    where = torch.device("cpu" if device is None else device)
    asked, true = _unit(queries, metric, where, "query"), _unit(truths, metric, where, "true embedding")
    own = (asked * true).sum(1, keepdim=True)
    rank = torch.zeros(len(asked), dtype=torch.float64, device=where)
    for _, rows in _pieces(library, asked, metric, piece_bytes):
        scores = asked @ rows.T
        rank += (scores > own).sum(1) + 0.5 * (scores == own).sum(1)
    return np.asarray(rank.cpu().numpy())


def prediction_quality_ranks(predictions: NDArray[Any], targets: NDArray[Any], metric: Metric = "cosine") -> IntArray:
    """(n_images,) place of each image when all are sorted by the similarity of their own prediction and target.

    0 is the image that is decoded best. This is the rank of the figures of Doerig et al. 2025: it does not
    compare an image with other candidates, so it says nothing of how well an image can be told from others.
    """
    unit = (_unit(x, metric, torch.device("cpu"), "embedding") for x in (predictions, targets))
    first, second = (x.double().numpy() for x in unit)
    order = np.argsort(-(first * second).sum(axis=1), kind="stable")
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    return places


def diagonal_advantage(similarity: FloatArray) -> float:
    """Mean similarity of predictions with their own target, minus that with all others; 0 for no information."""
    n = len(similarity)
    own = float(np.trace(similarity)) / n
    return own - float(similarity.sum() - np.trace(similarity)) / (n * (n - 1))


def caption_ceiling(embeddings: Sequence[NDArray[Any]], metric: Metric = "correlation") -> FloatArray:
    """(n_images,) how alike one caption and the mean of the image's others are, mean over *all* captions of an image.

    The ceiling of decoding: a prediction cannot be expected to be nearer to a caption than other people's captions.

    Parameters
    ----------
    embeddings : for each image (n_captions, n_features), two captions or more.
    """
    found = []
    for image, table in enumerate(embeddings):
        if len(table) < 2:
            raise DataError(f"image {image} has {len(table)} caption; a ceiling from other captions needs two or more")
        values = np.asarray(table, dtype=np.float64)
        others = (values.sum(axis=0, keepdims=True) - values) / (len(values) - 1)
        own, rest = (_unit(x, metric, torch.device("cpu"), "caption").double().numpy() for x in (values, others))
        found.append(float((own * rest).sum(axis=1).mean()))
    return np.array(found)


def _pieces(
    library: NDArray[Any], asked: torch.Tensor, metric: Metric, piece_bytes: int
) -> Iterator[tuple[int, torch.Tensor]]:
    width = asked.shape[1]
    if library.ndim != 2 or library.shape[1] != width:
        raise UserError(
            f"the library holds embeddings of shape {library.shape}, queries have {width} features",
            "embed the library with the same model",
        )
    n_rows = max(1, piece_bytes // (4 * max(width, len(asked))))
    for start in range(0, len(library), n_rows):
        yield start, _unit(library[start : start + n_rows], metric, asked.device, "library", start)


def _unit(values: NDArray[Any], metric: Metric, device: torch.device, what: str, first: int = 0) -> torch.Tensor:
    """Rows of unit length in float32; centred first for the correlation."""
    rows = torch.as_tensor(np.asarray(values, dtype=np.float32), device=device)
    if metric == "correlation":
        rows = rows - rows.mean(1, keepdim=True)
    length = rows.norm(dim=1, keepdim=True)
    bad = ~(torch.isfinite(length) & (length > 0))
    if bool(bad.any()):
        row = int(torch.nonzero(bad[:, 0])[0])
        raise InvalidNumbers(f"{what} {first + row} is not finite or has no length: it has no nearest neighbour")
    unit: torch.Tensor = rows / length
    return unit


def _line_offsets(path: Path) -> IntArray:
    """(n_lines + 1,) byte offset of each line and of the end."""
    parts, position = [np.zeros(1, dtype=np.int64)], 0
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            parts.append(np.flatnonzero(np.frombuffer(piece, dtype=np.uint8) == ord("\n")) + position + 1)
            position += len(piece)
    return np.concatenate(parts)
