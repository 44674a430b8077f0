# SPDX-License-Identifier: Apache-2.0
"""Maps over subjects through the command: only planted places light up, planted contrasts are recovered."""

import json

import numpy as np
import pytest
import scipy.stats
from typer.testing import CliRunner

from voxelboard.benchmark.caption_tables import read_analysis
from voxelboard.benchmark.models.image_nets import SIZES, NetSize
from voxelboard.benchmark.readers.registry import open_dataset
from voxelboard.benchmark.readers.simulated_captions import ROI_SHARES, CaptionSimulation, SimulatedCaptions
from voxelboard.benchmark.records import slug
from voxelboard.benchmark.similarity.rdms import correlation_distances, draw_image_sets
from voxelboard.benchmark.similarity.searchlight import make_spheres, searchlight
from voxelboard.benchmark.stimuli.scenes import KINDS
from voxelboard.benchmark.tasks.caption_maps import group_maps
from voxelboard.runners.cli import app, run_cli

DATA = "simulated-captions:maps"
PLANTED = ("early", "ventral", "lateral", "parietal")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELBOARD_CACHE", str(tmp_path_factory.mktemp("cache")))
        spec = CaptionSimulation(n_subjects=4, n_test=100, n_train=150, voxels_per_roi=48, ncsnr=2.0)
        patch.setattr(
            "voxelboard.benchmark.readers.simulated_captions.PRESETS", {"maps": spec, "demo": CaptionSimulation()}
        )
        yield tmp_path_factory.mktemp("captions")


def asked(*arguments):
    found = CliRunner().invoke(app, ["captions", *arguments, "--device", "cpu", "--quiet", "--json"])
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def stored(path):
    with np.load(path) as arrays:
        return dict(arrays)


def place(folder, data=DATA):
    """Where analyses of a model and data lie in a folder of records."""
    return folder / "studies/captions" / f"voxelboard__planted-q0.9--{slug(data)}"


def test_the_searchlight_lights_planted_regions_and_no_other(folder):
    found = asked("searchlight", "--data", DATA, "--radius", "2", "--layer", "1", "-o", str(folder))
    whole = {t["roi"]: t for t in found["tests"] if t["map"] == "whole caption"}
    for roi in PLANTED:
        assert whole[roi]["significant"] > 0.6, roi
        assert whole[roi]["mean"] > 0.03
    assert whole["NULL"]["significant"] <= 0.15  # neighbours share voxels, and 5 % of what is found may be false
    assert abs(whole["NULL"]["mean"]) < 0.02
    beyond = {t["roi"]: t["mean"] for t in found["tests"] if t["map"] == "whole caption - word average"}
    assert beyond["ventral"] > beyond["NULL"] + 0.03
    tables = read_analysis(place(folder) / "searchlight.json")
    assert tables.stamp.settings == {"radius": "2 voxels", "in the mask": "50% or more"}
    assert (tables.stamp.kind, tables.stamp.layer, tables.stamp.n_test) == ("simulated", 1, 100)
    for test in tables.tests:
        expected = scipy.stats.ttest_1samp(test.by_subject, 0).confidence_interval(0.95)
        assert (test.low, test.high) == pytest.approx((expected.low, expected.high))
    arrays = stored(place(folder) / "searchlight.npz")
    assert arrays["whole caption__sim01"].shape == (48 * len(ROI_SHARES),)
    assert np.nanmin(arrays["whole caption__adjusted"]) < 1e-3


def test_what_only_whole_captions_say_lights_up_where_it_is_planted_alone():
    """The planted caption content itself as model: lateral and parietal, not early, ventral or NULL."""
    world = SimulatedCaptions(CaptionSimulation(n_subjects=4, n_test=100, n_train=60, voxels_per_roi=48, ncsnr=3.0))
    sets = draw_image_sets(world.test_ids, "all", seed=0).rows(world.test_ids)
    rdm = correlation_distances(world.latents["caption"][world.test_ids][sets])[None]
    maps = {"caption": {}}
    for subject in world.subjects:
        responses = world.responses(subject)
        spheres = make_spheres(responses.positions, responses.grid_shape, radius=2)
        values = np.full(responses.n_voxels, np.nan)
        values[spheres.centres] = searchlight(responses.test_mean, rdm, sets, spheres)[0]
        maps["caption"][subject] = values
    found = group_maps(maps, world, 0)
    for roi, shares in ROI_SHARES.items():
        lit = found.test("caption", roi)
        # a geometry that the images of one set share by chance is the same in all subjects: size counts, not p alone
        assert (lit.significant > 0.6 and lit.mean > 0.08) == (shares[3] > 0), (roi, lit)
        assert shares[3] > 0 or abs(lit.mean) < 0.06


def test_planted_contrasts_are_recovered_over_subjects(folder):
    asked("contrasts", "--data", DATA, "--layer", "1", "-o", str(folder))
    world, arrays = open_dataset(DATA, "captions"), stored(place(folder) / "contrasts.npz")
    belongs = np.array([[any(KINDS[k][0] == g for k in s.kinds) for g in ("people", "food")] for s in world.scenes])
    ventral = world.rois == "ventral"
    agreement, planted = [], []
    for subject in world.subjects:
        signal = world.signal(subject, world.images.ids)[:, ventral]
        people, food = (signal[belongs[:, i] & ~belongs[:, 1 - i]].mean(axis=0) for i in (0, 1))
        planted.append(people - food)
        agreement.append(np.corrcoef(arrays[f"people - food__{subject}"][ventral], people - food)[0, 1])
    assert min(agreement) > 0.4
    group = np.mean([arrays[f"people - food__{subject}"][ventral] for subject in world.subjects], axis=0)
    assert np.corrcoef(group, np.mean(planted, axis=0))[0, 1] > 0.5
    assert not (arrays["people - food__adjusted"][world.rois == "NULL"] <= 0.05).any()


def test_networks_are_trained_and_told_by_the_command(folder, monkeypatch):
    monkeypatch.setitem(SIZES, "tiny", NetSize(image_px=16, channels=(4,), pooled=(), n_timesteps=1))
    arguments = ("networks", "--data", DATA, "--layer", "1", "--epochs", "1", "--seeds", "1", "-o", str(folder))
    found = asked(*arguments)
    tables = read_analysis(place(folder) / "networks/networks.json")
    assert found["differences"] == [{**vars(d), "by_seed": list(d.by_seed)} for d in tables.differences]
    assert tables.stamp.settings == {"preset": "tiny", "epochs": "1", "networks of each kind": "1"}
    # embeddings of another layer are another run: nothing trained to layer 1 is taken for one of layer 2
    other = CliRunner().invoke(app, ["captions", *arguments, "--layer", "2", "--device", "cpu", "--quiet"])
    assert other.exit_code != 0
    assert "another plan, or of other pictures or embeddings" in str(other.exception)


def test_what_cannot_be_mapped_is_refused(folder, capsys):
    assert run_cli(["captions", "searchlight", "--data", DATA, "--control", "nonsense", "--radius", "2"]) != 0
    assert "unknown control 'nonsense'" in capsys.readouterr().err
    assert run_cli(["captions", "searchlight", "--data", DATA, "--layer", "1"]) != 0
    assert "no sphere of radius 6" in capsys.readouterr().err
    assert run_cli(["captions", "contrasts", "--data", DATA, "-m", "voxelboard/oracle", "--layer", "0"]) != 0
