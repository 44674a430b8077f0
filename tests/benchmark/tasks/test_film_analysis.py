# SPDX-License-Identifier: Apache-2.0
"""A researcher's own analysis: the two examples of the paper on features of one's own, against himalaya; resumed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import yaml
from drama_worlds import CPU, DramaWorld
from ds005531_twin import twin_card, write_twin
from himalaya.ridge import RidgeCV
from himalaya.scoring import correlation_score
from pictures import require_picture_reading
from sklearn.decomposition import PCA
from sklearn.model_selection import PredefinedSplit

from voxelboard.benchmark.encoding.filters import high_pass
from voxelboard.benchmark.encoding.reference import himalaya_backend
from voxelboard.benchmark.errors import DataError, MissingPrerequisite, UserError
from voxelboard.benchmark.features.store import FeatureStore
from voxelboard.benchmark.models.quiet import quiet_transformers
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.ds005531 import Ds005531
from voxelboard.benchmark.readers.simulated_drama import DramaSpec
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.stimuli.annotations import LEVEL_NAMES
from voxelboard.benchmark.strict_yaml import read_yaml, validate
from voxelboard.benchmark.tasks.drama_scores import NO_LEVEL
from voxelboard.benchmark.tasks.film_analysis import Analysis, analyse, film_problem
from voxelboard.benchmark.tasks.film_config import AnalysisConfig, from_lists
from voxelboard.runners.cli import run_cli

SPEC = DramaSpec(n_subjects=1, n_voxels=5, n_runs=3, run_trs=100, snr=1.0)


@pytest.fixture(scope="module")
def world() -> DramaWorld:
    return DramaWorld(SPEC)


@pytest.fixture(scope="module")
def arrays(world: DramaWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is planted, as a user's own files: one a run and level, and a file of noise."""
    folder = tmp_path_factory.mktemp("arrays")
    rng = np.random.default_rng(0)
    for name, run in world.data.runs.items():
        for level in LEVEL_NAMES:
            noise = 0.01 * rng.standard_normal((run.n_trs, 6))
            np.save(folder / f"{level}-{name}.npy", np.concatenate([run.latents[level], noise], axis=1))
    return folder


def _analysis(world: DramaWorld, folder: Path, output: Path, **values: Any) -> Analysis:
    config = AnalysisConfig.model_validate({"schema_version": 1, "data": "x", "subjects": ("sim01",), **values})
    store = FeatureStore(output / "store")
    return Analysis(config, world.data, output, folder, Settings(V1), store, CPU, lambda r: f"<svg>{len(r)}</svg>")


def _own(*levels: str) -> list[dict[str, Any]]:
    return [{"name": level, "arrays": f"{level}-{{run}}.npy", "layers": (0,)} for level in levels]


def test_single_feature_equals_himalaya(world: DramaWorld, arrays: Path, tmp_path: Path) -> None:
    reduce = {"method": "pca", "n_components": 8}
    analysis = _analysis(
        world, arrays, tmp_path, features=_own("story"), reduce=reduce, save_predictions=True, top_voxels=20
    )
    ((cell),) = analyse(analysis)
    read = {path.name: np.load(path) for path in cell.folder.glob("*_8PCs.npy")}
    assert {
        "cv_cc_8PCs.npy",
        "cc_8PCs.npy",
        "pvalues_corrected_8PCs.npy",
        "coef_8PCs.npy",
        "preds_val_8PCs.npy",
    } <= set(read)
    assert (cell.folder / "dist_8PCs.svg").read_text() == f"<svg>{SPEC.n_voxels * 7}</svg>"

    fold = world.cohort.folds[0]
    tables = {name: np.load(arrays / f"story-{name}.npy").astype(np.float32) for name in world.data.runs}
    problem = film_problem(tables, analysis, world.cohort)
    train = np.concatenate([tables[s.story][s.start : s.stop] for s in fold.train])
    pca = PCA(8, random_state=42).fit(train)
    first = fold.train[0]
    reduced = pca.transform(tables[first.story])
    shifted = np.mean([np.pad(reduced, ((d, 0), (0, 0)))[: len(reduced)] for d in (8, 9, 10)], axis=0)
    naive = high_pass(shifted[first.start + 5 : first.stop - 5], 1.0, V1.design.high_pass_s)
    np.testing.assert_allclose(problem.train.numpy()[: len(naive)], naive, atol=1e-5)

    Y = fold.responses[:, world.cohort.columns["sim01"]].astype(np.float32)
    with himalaya_backend("torch"):
        reference = RidgeCV(
            alphas=np.logspace(-12, 12, 25),
            fit_intercept=False,
            cv=PredefinedSplit(fold.inner_folds),
            solver_params={"score_func": correlation_score},
        ).fit(problem.train.double(), torch.as_tensor(Y).double())
        expected = np.asarray(reference.predict(problem.test.double()))
        scores = np.asarray(reference.cv_scores_)
    np.testing.assert_allclose(read["cv_cc_8PCs.npy"], scores, atol=2e-5)
    same = np.isclose(read["alphas_8PCs.npy"], np.asarray(reference.best_alphas_), rtol=1e-3)
    assert same.mean() > 0.8  # the others tie: their scores above are equal
    np.testing.assert_allclose(read["preds_val_8PCs.npy"][:, same], expected[:, same], atol=2e-4)
    np.testing.assert_allclose(problem.test.numpy() @ read["coef_8PCs.npy"], read["preds_val_8PCs.npy"], atol=1e-4)
    np.testing.assert_allclose(problem.train.numpy() @ read["coef_8PCs.npy"], read["preds_trn_8PCs.npy"], atol=1e-4)
    assert read["weights_pca_8PCs.npy"].shape == (8, 8)
    assert read["weights_pca_ratio_8PCs.npy"].sum() == pytest.approx(1, abs=1e-5)


def test_five_bands_split_and_unique(world: DramaWorld, arrays: Path, tmp_path: Path) -> None:
    analysis = _analysis(
        world, arrays, tmp_path, features=_own(*LEVEL_NAMES), regression="banded", n_iter=6, reduce={"method": "pca"}
    )
    (cell,) = analyse(analysis)
    read = {path.name.removesuffix("_1280PCs.npy"): np.load(path) for path in cell.folder.glob("*.npy")}
    np.testing.assert_allclose(sum(read[f"cc_split_{level}"] for level in LEVEL_NAMES), read["cc"], atol=1e-6)
    rois = world.data.rois
    assert read["cc_unique_speech"][rois == "AC"].mean() > 0.1
    assert read["cc_unique_speech"][rois == "PCun"].mean() < 0.6 * read["cc_unique_speech"][rois == "AC"].mean()
    assert set(read["winner"].tolist()) <= {*LEVEL_NAMES, NO_LEVEL}
    assert (read["winner"][rois == "AC"] == "speech").mean() > 0.5
    assert (read["winner"][rois == "NULL"] == NO_LEVEL).mean() > 0.5


def test_second_run_does_no_work_and_another_setting_does(world: DramaWorld, arrays: Path, tmp_path: Path) -> None:
    layers = [{"name": "own", "arrays": "{layer}-{run}.npy", "layers": (0, 1)}]
    for layer, level in enumerate(("story", "object")):
        for name in world.data.runs:
            np.save(tmp_path / f"{layer}-{name}.npy", np.load(arrays / f"{level}-{name}.npy"))
    first = _analysis(world, tmp_path, tmp_path / "out", features=layers)
    assert [cell.stored for cell in analyse(first)] == [False, False]
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npy")}
    assert [cell.stored for cell in analyse(first)] == [True, True]
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npy")}
    # a cell that was not finished is run again, the other is kept
    (tmp_path / "out" / "simulated-drama" / "sim01" / "mono" / "own" / "layer1" / "done_raw.json").unlink()
    assert [cell.stored for cell in analyse(first)] == [True, False]
    fir = _analysis(
        world, tmp_path, tmp_path / "out", features=layers, delays={"kind": "fir", "seconds": (4.0, 6.0, 8.0)}
    )
    assert [cell.stored for cell in analyse(fir)] == [False, False]
    coef = np.load(tmp_path / "out" / "simulated-drama" / "sim01" / "mono" / "own" / "layer0" / "coef_raw.npy")
    assert len(coef) == 3 * 12
    best = _analysis(
        world,
        tmp_path,
        tmp_path / "out",
        features=[{**layers[0], "layers": "best"}, *_own_in(tmp_path)],
        regression="banded",
        n_iter=3,
        delays={"kind": "fir", "seconds": (4.0, 6.0, 8.0)},
    )
    (cell,) = analyse(best)
    scores = {
        layer: np.load(
            tmp_path / "out" / "simulated-drama" / "sim01" / "mono" / "own" / f"layer{layer}" / "cv_cc_raw.npy"
        ).mean()
        for layer in (0, 1)
    }
    assert cell.folder.name.startswith(f"own{max(scores, key=scores.__getitem__)}")


def _own_in(folder: Path) -> list[dict[str, Any]]:
    return [{"name": "other", "arrays": "1-{run}.npy", "layers": (0,)}]


def test_best_layer_needs_a_mono_analysis(world: DramaWorld, arrays: Path, tmp_path: Path) -> None:
    features = [{**_own("story")[0], "layers": "best"}, *_own("speech")]
    analysis = _analysis(world, arrays, tmp_path, features=features, regression="banded")
    with pytest.raises(MissingPrerequisite, match="no mono analysis"):
        list(analyse(analysis))


def test_bad_arrays_layers_and_levels_are_refused(world: DramaWorld, arrays: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite, match="no features at"):
        list(analyse(_analysis(world, arrays, tmp_path, features=_own("nothing"))))
    for name, run in world.data.runs.items():
        np.save(tmp_path / f"short-{name}.npy", np.zeros((run.n_trs - 1, 3)))
    with pytest.raises(DataError, match="expected numbers"):
        list(analyse(_analysis(world, tmp_path, tmp_path, features=_own("short"))))
    text = {"name": "t", "level": "storyy", "model": "voxelboard/planted-q0.5", "layers": (0,)}
    with pytest.raises(UserError, match="Did you mean 'story'"):
        list(analyse(_analysis(world, arrays, tmp_path, features=[text])))
    with pytest.raises(UserError, match="layers 0 to"):
        list(analyse(_analysis(world, arrays, tmp_path, features=[{**text, "level": "story", "layers": (99,)}])))
    with pytest.raises(UserError, match="no released features"):
        list(
            analyse(
                _analysis(
                    world, arrays, tmp_path, features=[{"name": "r", "level": "story", "released": "x", "layers": (0,)}]
                )
            )
        )


def test_released_features_of_the_real_format(tmp_path: Path) -> None:
    data = Ds005531(twin_card(), write_twin(tmp_path / "twin"))
    config = AnalysisConfig.model_validate(
        {
            "schema_version": 1,
            "data": "ds005531",
            "subjects": ("S01",),
            "features": [{"name": "s", "level": "story", "released": "GPT2medium_jp_layer12_mean", "layers": (0,)}],
            "permutation": {"block_trs": 10, "n_draws": 50, "kind": "gauss"},
        }
    )
    analysis = Analysis(
        config, data, tmp_path / "out", tmp_path, Settings(V1), FeatureStore(tmp_path / "s"), CPU, lambda r: "<svg/>"
    )
    (cell,) = analyse(analysis)
    assert cell.summary["n_voxels"] == 7
    assert cell.summary["n_significant"] <= 2  # noise


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"regression": "banded"}, "needs one layer, or `best`"),
        (
            {"regression": "banded", "features": [{"name": "a", "arrays": "x", "layers": [0]}]},
            "banded needs two features",
        ),
        ({"features": [{"name": "a", "arrays": "x"}, {"name": "a", "arrays": "y"}]}, "each needs one of its own"),
        ({"features": [{"name": "a", "level": "story"}]}, "no source"),
        ({"features": [{"name": "a", "model": "gpt2"}]}, "needs a level"),
        ({"features": [{"name": "a", "media": {"model": "m"}}]}, "give frames or sound"),
        ({"delay": 3}, "unknown key delay; allowed: .*delays"),
        ({"reduce": {"method": "ica"}}, "allowed: none, pca, srp"),
    ],
)
def test_bad_configs_are_refused_with_line_and_key(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    values = {"schema_version": 1, "data": "simulated-drama", "features": [{"name": "a", "arrays": "x"}], **change}
    path = tmp_path / "analysis.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match=message):
        validate(read_yaml(path), AnalysisConfig)


def test_parallel_lists_must_be_of_equal_length() -> None:
    with pytest.raises(UserError, match="2 --level, 1 --model, 2 --layers"):
        from_lists("x", (), [], ["story", "speech"], ["gpt2"], ["0", "1"], {}, {})
    with pytest.raises(UserError, match="numbers separated by commas"):
        from_lists("x", (), [], ["story"], ["gpt2"], ["first"], {}, {})
    config = from_lists("x", ("s",), ["a", "b"], ["story"] * 2, ["gpt2"] * 2, ["0,3", "all"], {}, {"annotators": "A"})
    assert [f.layers for f in config.features] == [(0, 3), "all"]
    assert config.features[0].annotators == "A"


def test_the_command_runs_the_papers_example(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXELBOARD_CACHE", str(tmp_path / "cache"))
    flags = [
        "analyse",
        "--data",
        "simulated-drama:tiny",
        "--subjects",
        "sim01",
        "--reduce",
        "pca:1280",
        "--delays",
        "8",
        "10",
    ]
    flags += [
        "--level",
        "story",
        "-m",
        "voxelboard/planted-q0.9",
        "--layers",
        "3",
        "-o",
        str(tmp_path / "out"),
        "--quiet",
    ]
    assert run_cli(flags) == 0
    assert "mono/story/layer3" in capsys.readouterr().out
    (picture,) = (tmp_path / "out").rglob("dist_1280PCs.svg")
    assert picture.read_text().startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert run_cli([*flags, "--level", "speech"]) == 2
    assert "parallel lists of different length" in capsys.readouterr().err


def test_frames_of_ones_own_film_are_a_feature(world: DramaWorld, tmp_path: Path) -> None:
    require_picture_reading()
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        config = transformers.ViTConfig(**sizes, image_size=16, patch_size=8)
        transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "vit")
    pixels = {"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(pixels))
    rng = np.random.default_rng(2)
    for name, run in world.data.runs.items():
        np.save(tmp_path / f"{name}.npy", rng.integers(0, 256, (2 * run.n_trs, 8, 8, 3), dtype=np.uint8))
    media = {"model": "vit", "frames": "{run}.npy", "fps": 2, "pooling": "mean"}
    features = [{"name": "vit", "media": media, "layers": "all"}]
    cells = list(analyse(_analysis(world, tmp_path, tmp_path / "out", features=features)))
    assert [cell.folder.name for cell in cells] == ["layer0", "layer1"]
    assert all(cell.summary["n_significant"] <= 3 for cell in cells)  # noise
    assert [cell.stored for cell in analyse(_analysis(world, tmp_path, tmp_path / "out", features=features))] == [
        True
    ] * 2
