# SPDX-License-Identifier: Apache-2.0
"""Searchlight RSA against rsatoolbox, and exact retrieval against a full sort.

Parity is asserted beside each figure; ratios of CPU seconds on one thread are reported (``extra_info``), never asserted.
rsatoolbox is the peer of the field; it is installed with ``pip install rsatoolbox``.
"""

import time

import numpy as np
import pytest

from voxelboard.benchmark.similarity.rdms import correlation_distances
from voxelboard.benchmark.similarity.retrieval import nearest
from voxelboard.benchmark.similarity.searchlight import make_spheres, searchlight

N_IMAGES = 100
N_FEATURES = 384


def cpu_seconds(function):
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


@pytest.mark.parametrize("n_models", [1, 8])
def test_searchlight_beside_rsatoolbox(benchmark, n_models):
    """A block of 14 x 14 x 10 voxels, radius 6: spheres of up to 895 voxels, one set of 100 images."""
    toolbox = pytest.importorskip("rsatoolbox.util.searchlight", reason="pip install rsatoolbox")
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


def test_retrieval_from_disk_beside_a_full_sort(benchmark, tmp_path):
    """128 queries in 100,000 captions of 384 features, float16 on disk; a full sort needs all similarities at once."""
    rng = np.random.default_rng(0)
    n_library = 100_000
    table = np.lib.format.open_memmap(
        tmp_path / "library.npy", mode="w+", dtype=np.float16, shape=(n_library, N_FEATURES)
    )
    for start in range(0, n_library, 20_000):
        table[start : start + 20_000] = rng.standard_normal((20_000, N_FEATURES))
    table.flush()
    library = np.load(tmp_path / "library.npy", mmap_mode="r")
    queries = rng.standard_normal((128, N_FEATURES)).astype(np.float32)

    def full_sort():
        rows = library.astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        return np.argsort(-(unit @ rows.T), axis=1, kind="stable")[:, :10]

    theirs, expected = cpu_seconds(full_sort)
    ours, found = cpu_seconds(lambda: nearest(queries, library, 10))
    assert (found.indices == expected).mean() > 0.999  # near ties may differ in the last bit of float32
    benchmark.extra_info.update(ours_cpu_s=ours, full_sort_cpu_s=theirs, ratio=theirs / ours)
    benchmark.pedantic(nearest, args=(queries, library, 10), rounds=2)
