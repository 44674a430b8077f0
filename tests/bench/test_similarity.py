# SPDX-License-Identifier: Apache-2.0
"""Searchlight RSA against rsatoolbox, exact retrieval against a full sort and FAISS.

Parity is asserted beside each figure; CPU seconds are reported (``extra_info``), never asserted: one thread with
``OMP_NUM_THREADS=1``. Peers: ``pip install rsatoolbox faiss-cpu`` (rsatoolbox needs its dependency scikit-image to be imported).
"""

import time

import numpy as np
import pytest

from voxelboard.benchmark.similarity.rdms import correlation_distances
from voxelboard.benchmark.similarity.retrieval import nearest
from voxelboard.benchmark.similarity.searchlight import make_spheres, searchlight

N_IMAGES = 100
N_QUERIES = 128
PIECE = 20_000
N_FEATURES = 384


def cpu_seconds(function):
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


@pytest.mark.parametrize("n_models", [1, 8])
def test_searchlight_beside_rsatoolbox(benchmark, n_models):
    """A block of 14 x 14 x 10 voxels, radius 6: spheres of up to 895 voxels, one set of 100 images."""
    toolbox = pytest.importorskip("rsatoolbox.util.searchlight", reason="pip install rsatoolbox scikit-image")
    from rsatoolbox.model import ModelFixed
    from rsatoolbox.rdm import RDMs, compare

    rng = np.random.default_rng(0)
    shape = (14, 14, 10)
    spheres = make_spheres(np.argwhere(np.ones(shape)), shape)
    patterns = rng.standard_normal((N_IMAGES, int(np.prod(shape)))).astype(np.float32)
    models = correlation_distances(rng.standard_normal((n_models, N_IMAGES, 16)))[:, None]
    sets = np.arange(N_IMAGES)[None]
    neighbours = [spheres.members[s, : spheres.sizes[s]] for s in range(len(spheres.centres))]

    def peer():
        rdms = toolbox.get_searchlight_RDMs(
            patterns, spheres.centres, neighbours, np.arange(N_IMAGES), "correlation", verbose=False
        )
        fixed = [ModelFixed(f"m{i}", RDMs(model[0])) for i, model in enumerate(models)]
        return np.stack([compare(model.predict_rdm(), rdms, "corr")[0] for model in fixed])

    theirs, expected = cpu_seconds(peer)
    ours, found = cpu_seconds(lambda: searchlight(patterns, models, sets, spheres))
    assert found == pytest.approx(expected, abs=5e-6)
    benchmark.extra_info.update(
        n_spheres=len(spheres.centres), ours_cpu_s=ours, rsatoolbox_cpu_s=theirs, ratio=theirs / ours
    )
    benchmark.pedantic(searchlight, args=(patterns, models, sets, spheres), rounds=2)


def library_on_disk(folder, n_captions):
    """(n_captions, N_FEATURES) float16, memory-mapped."""
    rng = np.random.default_rng(0)
    path = folder / "library.npy"
    table = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(n_captions, N_FEATURES))
    for start in range(0, n_captions, PIECE):
        table[start : start + PIECE] = rng.standard_normal((min(PIECE, n_captions - start), N_FEATURES))
    table.flush()
    return np.load(path, mmap_mode="r"), rng.standard_normal((N_QUERIES, N_FEATURES)).astype(np.float32)


def units(table):
    rows = table.astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_retrieval_from_disk_beside_a_full_sort(benchmark, tmp_path):
    """128 queries in 100,000 captions of 384 features; a full sort needs all similarities at once."""
    library, queries = library_on_disk(tmp_path, 100_000)
    theirs, expected = cpu_seconds(
        lambda: np.argsort(-(units(queries) @ units(library).T), axis=1, kind="stable")[:, :10]
    )
    ours, found = cpu_seconds(lambda: nearest(queries, library, 10))
    assert (found.indices == expected).mean() > 0.999  # near ties may differ in the last bit of float32
    benchmark.extra_info.update(ours_cpu_s=ours, full_sort_cpu_s=theirs, ratio=theirs / ours)
    benchmark.pedantic(nearest, args=(queries, library, 10), rounds=2)


def test_retrieval_from_a_million_captions_beside_faiss(benchmark, tmp_path):
    """128 queries in a million captions (0.7 GB on disk). The exact index of FAISS holds 1.4 GB in memory; its filling is told apart."""
    faiss = pytest.importorskip("faiss", reason="pip install faiss-cpu")
    library, queries = library_on_disk(tmp_path, 1_000_000)

    def fill():
        index = faiss.IndexFlatIP(N_FEATURES)
        for start in range(0, len(library), PIECE):
            index.add(units(library[start : start + PIECE]))
        return index

    filling, index = cpu_seconds(fill)
    searching, (_, expected) = cpu_seconds(lambda: index.search(units(queries), 10))
    ours, found = cpu_seconds(lambda: nearest(queries, library, 10))
    assert (found.indices == expected).mean() > 0.999
    benchmark.extra_info.update(ours_cpu_s=ours, faiss_fill_cpu_s=filling, faiss_search_cpu_s=searching)
    benchmark.pedantic(nearest, args=(queries, library, 10), rounds=2)
