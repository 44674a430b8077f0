# SPDX-License-Identifier: Apache-2.0
"""Work is counted before anything is loaded, and features are made once for all cells of a model."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from voxelboard.benchmark.encoding.memory import MemoryEstimate, estimate_banded_memory, estimate_memory
from voxelboard.benchmark.environment import Stopwatch
from voxelboard.benchmark.features.store import FeatureStore
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.registry import open_dataset
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import load_submission
from voxelboard.benchmark.tasks import ablation, drama, film_work, load_task
from voxelboard.benchmark.tasks import work as story_sizes
from voxelboard.benchmark.tasks.base import Prepares, RunContext
from voxelboard.benchmark.tasks.story_work import tokens_of_condition
from voxelboard.benchmark.tasks.work import Fit, ModelSize, Work, memory_of


def context_of(folder: Path) -> RunContext:
    return RunContext(Settings(V1, device="cpu"), FeatureStore(folder), torch.device("cpu"), Stopwatch())


@pytest.mark.timeout(400)  # three tasks measured for real, a minute each on a busy machine
@pytest.mark.parametrize("task", ["captions", "drama", "ablation"])
def test_what_was_prepared_is_all_that_a_cell_reads(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submission, data, asked = load_submission("planted-q0.9"), open_dataset(f"simulated-{task}:tiny"), load_task(task)
    assert isinstance(asked, Prepares)
    context = context_of(tmp_path)
    asked.prepare(submission, data, context)
    assert context.store.misses

    def no_cells(*_: Any, **__: Any) -> Iterator[Any]:
        return iter(())

    # what follows the features takes minutes, and asks for no other
    monkeypatch.setattr(drama, "_score", no_cells)
    monkeypatch.setattr(ablation.Narrative, "run", no_cells)
    monkeypatch.setattr(ablation, "condition_statistics", lambda *_: {})
    again = context_of(tmp_path)
    list(asked.measure(submission, data, data.subjects[:1], again))
    assert (again.store.misses, again.store.hits > 0) == (0, True)


@pytest.mark.parametrize(
    ("task", "data"),
    [
        ("narrative", "simulated-narrative:tiny"),
        ("narrative", "simulated-sentences:tiny"),
        ("drama", "simulated-drama:tiny"),
        ("captions", "simulated-captions:tiny"),
        ("ablation", "simulated-ablation:tiny"),
    ],
)
def test_every_task_counts_its_work(task: str, data: str) -> None:
    counted, opened = load_task(task), open_dataset(data, task)
    size = ModelSize(6, 64, 10**6, 4 * 10**6, 3)

    def work(subjects: int = 1, size: ModelSize = size) -> Work:
        return counted.work(opened, opened.subjects[:subjects], size, V1, on_gpu=False)

    one, two = work(), work(2)
    assert (two.tokens, two.feature_bytes) == (one.tokens, one.feature_bytes), "features are made once for all subjects"
    assert two.flops > one.flops
    assert two.response_bytes > one.response_bytes
    deeper = work(size=replace(size, n_layers=12))
    assert (deeper.tokens, deeper.feature_bytes) == (one.tokens, 2 * one.feature_bytes)
    assert deeper.n_fits > 1.5 * one.n_fits
    assert one.tokens > 1.2 * work(size=replace(size, n_twins=0)).tokens
    wider = work(size=replace(size, n_features=256))
    assert wider.feature_bytes == 4 * one.feature_bytes
    assert wider.host_bytes >= one.host_bytes
    row = work(size=ModelSize(1, 64, 0, 0, 0, "once", "random-word-vectors"))
    assert 0 < row.tokens < one.tokens
    assert row.n_fits < one.n_fits
    on_gpu = counted.work(opened, opened.subjects[:1], size, V1, on_gpu=True)
    assert on_gpu.device_bytes > 0
    # host and GPU need not be at their peaks at the same time
    assert one.host_bytes <= on_gpu.host_bytes + on_gpu.device_bytes <= 1.05 * one.host_bytes


def test_features_take_what_is_counted(tmp_path: Path) -> None:
    """The store of a real extraction holds the bytes that were expected: one model, its twins, all conditions."""
    for task, data in (("drama", "simulated-drama:tiny"), ("ablation", "simulated-ablation:tiny")):
        submission = load_submission("planted-q0.9")
        context = context_of(tmp_path / task)
        opened, done = open_dataset(data, task), load_task(task)
        assert isinstance(done, Prepares)
        done.prepare(submission, opened, context)
        size = ModelSize(4, 48, 0, 0, V1.score.n_twins, "once")
        stored = sum(path.stat().st_size for path in (tmp_path / task).rglob("*.npy"))
        counted = load_task(task).work(opened, opened.subjects[:1], size, V1, on_gpu=False)
        assert stored == pytest.approx(counted.feature_bytes, rel=0.05)


def test_tags_that_a_small_model_spells_are_read_word_by_word() -> None:
    """Tokens a word of the 20 conditions together as stories260K read the test stories of lebel2023-pcs: 641."""
    size = ModelSize(6, 64, 260_032, 4 * 260_032, 3, max_tokens=512, n_vocabulary=512)

    def tokens(size: ModelSize) -> float:
        return sum(tokens_of_condition(name, size, V1) for name in V1.ablation.conditions)

    assert tokens(size) == pytest.approx(641, rel=0.25)
    whole = replace(size, max_tokens=None)
    assert tokens(whole) < tokens(size) / 4
    assert tokens_of_condition("random-content", size, V1) == pytest.approx(251, rel=0.15)
    assert tokens_of_condition("backward", size, V1) == tokens_of_condition("backward", whole, V1)
    usual = replace(size, n_vocabulary=50_257)
    assert tokens(usual) == tokens(replace(usual, max_tokens=None)), "no tag is longer than its context"
    alone = replace(size, reading="prefixes")
    assert tokens_of_condition("random-content", alone, V1) == 512


def test_memory_of_a_large_fit_is_that_of_the_measured_estimate() -> None:
    size = ModelSize(n_layers=13, n_features=768, n_parameters=124_000_000, weight_bytes=500 << 20, n_twins=3)
    for gpu in (False, True):
        fit = Fit(9000, 300, 768 * 4, 170_000)
        expected = estimate_memory(
            n_train=9000, n_test=300, n_features=768, n_delays=4, n_targets=170_000, n_layers=13, on_gpu=gpu
        )
        assert memory_of(fit, size, V1, 4, on_gpu=gpu) == expected


def test_the_other_listeners_are_as_wide_as_their_voxels() -> None:
    data = open_dataset("simulated-narrative:tiny")
    row = ModelSize(1, 300, 0, 0, 0, "once", "cross-subject")
    work = load_task("narrative").work(data, data.subjects, row, V1, on_gpu=False)
    assert (work.tokens, work.feature_bytes) == (0.0, 0), "nothing is read"
    assert work.n_fits == 2 * len(data.subjects), "raw and unique, each subject from its own others"


@pytest.mark.parametrize("gpu", [False, True])
def test_a_drama_is_estimated_as_bands_and_a_story_as_one_ridge(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate that a plan shows is that of the largest fit that the task makes."""
    asked: list[tuple[str, dict[str, Any]]] = []

    def noted(name: str, estimate: Any) -> Any:
        def run(**sizes: Any) -> MemoryEstimate:
            asked.append((name, sizes))
            found: MemoryEstimate = estimate(**sizes)
            return found

        return run

    monkeypatch.setattr(film_work, "estimate_banded_memory", noted("bands", estimate_banded_memory))
    monkeypatch.setattr(film_work, "estimate_memory", noted("one level", estimate_memory))
    monkeypatch.setattr(story_sizes, "estimate_memory", noted("ridge", estimate_memory))
    size = ModelSize(6, 768, 10**6, 4 * 10**6, 3)

    film = open_dataset("simulated-drama:tiny", "drama")
    planned = load_task("drama").work(film, film.subjects, size, V1, on_gpu=gpu)
    assert [name for name, _ in asked] == ["one level", "bands"]
    bands = asked[-1][1]
    assert len(bands["band_columns"]) == len(film.levels)
    assert (bands["columns_form"], bands["n_draws"]) == (True, V1.drama.n_draws)
    assert bands["n_targets"] > V1.score.noise_brain_voxels
    largest = estimate_banded_memory(**bands)
    assert planned.host_bytes > largest.host
    assert planned.device_bytes >= largest.device

    asked.clear()
    stories = open_dataset("simulated-narrative:tiny")
    planned = load_task("narrative").work(stories, stories.subjects, size, V1, on_gpu=gpu)
    ((name, ridge),) = asked
    assert (name, ridge["n_features"], ridge["n_delays"]) == ("ridge", 768, len(V1.design.delays_trs))
    assert planned.host_bytes > estimate_memory(**ridge).host
    assert planned.device_bytes == estimate_memory(**ridge).device
