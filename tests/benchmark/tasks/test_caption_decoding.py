# SPDX-License-Identifier: Apache-2.0
"""From simulated brains to captions of a library, through the command."""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from voxelboard.benchmark.caption_tables import read_analysis
from voxelboard.benchmark.environment import Stopwatch
from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.features.store import FeatureStore
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.base import facts_of
from voxelboard.benchmark.readers.registry import open_dataset
from voxelboard.benchmark.readers.simulated_captions import CaptionSimulation
from voxelboard.benchmark.records import slug
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.tasks import load_task
from voxelboard.benchmark.tasks.base import RunContext
from voxelboard.benchmark.tasks.caption_decoding import decode_captions, read_captions, training_captions, unscaled
from voxelboard.benchmark.tasks.caption_encoding import standardise
from voxelboard.runners.cli import app

DATA = "simulated-captions:clear"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELBOARD_CACHE", str(tmp_path_factory.mktemp("cache")))
        spec = CaptionSimulation(n_subjects=2, n_test=60, n_train=300, voxels_per_roi=64, ncsnr=8.0)
        patch.setattr("voxelboard.benchmark.readers.simulated_captions.PRESETS", {"clear": spec})
        yield tmp_path_factory.mktemp("records")


def decoded(folder, *arguments):
    asked = ["captions", "decoding", "--data", DATA, "--layer", "1", "-o", str(folder), "--device", "cpu", "--json"]
    found = CliRunner().invoke(app, [*asked, "--quiet", *arguments])
    assert found.exit_code == 0, found.output
    return read_analysis(folder / "studies/captions" / f"voxelboard__planted-q0.9--{slug(DATA)}" / "decoding.json")


def scores(tables, name):
    return [score.estimate for score in tables.scores if score.name == name]


def test_clear_brains_find_their_captions_and_the_library_is_embedded_once(folder):
    tables = decoded(folder)
    assert min(scores(tables, "retrieval")) > 0.9
    assert min(scores(tables, "library")) > 0.9
    assert min(scores(tables, "own_r")) > 0.5
    assert max(scores(tables, "own_r")) < 1
    (made,) = folder.rglob("library-*/embeddings.npy")
    stamp = made.stat().st_mtime_ns
    assert decoded(folder) == tables
    assert [path.stat().st_mtime_ns for path in folder.rglob("library-*/embeddings.npy")] == [stamp]
    assert tables.images[0].quality_rank == 0
    assert tables.images[-1].quality_rank == 59
    for image in tables.images:
        assert image.similarity == tuple(sorted(image.similarity, reverse=True))


def test_the_default_library_holds_no_caption_of_a_test_image(folder):
    data = open_dataset(DATA, "captions")
    tested = {caption for row in data.images.rows(data.test_ids) for caption in data.images.captions[row]}
    assert not tested & set(training_captions(data))


def test_a_library_of_one_s_own_is_searched(folder, tmp_path):
    data = open_dataset(DATA, "captions")
    said = [data.images.captions[row][0] for row in data.images.rows(data.test_ids)]
    path = tmp_path / "mine.txt"
    path.write_text("\n\n".join(said) + "\n", encoding="utf-8")
    tables = decoded(folder, "--library", str(path))
    assert tables.stamp.settings == {"library": "60 captions (mine.txt)"}
    found = [image.nearest[0] == image.said for image in tables.images]
    assert np.mean(found[:5]) > 0.5  # the best decoded half finds its own words among 60


def test_noise_says_nothing(folder, monkeypatch):
    from voxelboard.benchmark.tasks import caption_decoding

    real = caption_decoding.decode

    def noise(*arguments):
        scaled, truth, train = real(*arguments)
        return np.random.default_rng(0).permutation(scaled), truth, train

    monkeypatch.setattr(caption_decoding, "decode", noise)
    tables = decoded(folder)
    assert max(map(abs, scores(tables, "retrieval"))) < 0.3
    assert max(map(abs, scores(tables, "library"))) < 0.3


def test_predictions_return_to_the_space_of_the_embeddings():
    rng = np.random.default_rng(0)
    table = 3 + rng.standard_normal((40, 6)) * [1, 5, 0.2, 0, 2, 1]
    (scaled,) = standardise(table)
    assert unscaled(scaled, table) == pytest.approx(table, abs=1e-12)


def test_what_cannot_be_decoded_is_refused(folder, tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n")
    with pytest.raises(DataError, match="is empty"):
        read_captions(empty)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="holds no captions"):
        read_captions(tmp_path / "binary.txt")
    data = open_dataset(DATA, "captions")
    oracle = next(
        row for row in load_task("captions").mandatory_rows(facts_of(data)) if row.label == "voxelboard/oracle"
    )
    context = RunContext(Settings(protocol=V1), FeatureStore(tmp_path), torch.device("cpu"), Stopwatch())
    with pytest.raises(UserError, match="reads no captions"):
        decode_captions(oracle, data, context, tmp_path)
