# SPDX-License-Identifier: Apache-2.0
"""From a plan to stages: order, sharing, splitting, and what cannot fit."""

from dataclasses import replace
from pathlib import Path

import pytest

from voxelboard.benchmark.errors import MissingPrerequisite
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.base import DatasetFacts
from voxelboard.benchmark.record_stamps import Environment
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import baseline_submissions, load_submission
from voxelboard.benchmark.tasks.work import ModelSize, Work
from voxelboard.runners.capacity import Capacity
from voxelboard.runners.estimates import calibrate, calibration, feature_needs, needs_of, size_of
from voxelboard.runners.execution import choose_workers
from voxelboard.runners.plan import Plan, make_plan
from voxelboard.runners.staging import Workers, stages_of, too_large
from voxelboard.runners.workers.stages import Needs, Stage

GIB = 1 << 30


class Known:
    """An estimator that knows seconds by submission and bytes by subject."""

    def __init__(self, seconds: dict[str, float | None], host_bytes: int = GIB) -> None:
        self.seconds, self.host_bytes = seconds, host_bytes

    def needs(self, cells, stored: bool = False) -> Needs:  # type: ignore[no-untyped-def]
        return Needs(self.seconds[cells[0].submission.label], self.host_bytes * len(cells), 0, 0)

    def feature_needs(self, cells) -> Needs:  # type: ignore[no-untyped-def]
        return Needs(self.seconds[cells[0].submission.label], self.host_bytes, 0, 0)


def plan_of(tmp_path: Path, facts: DatasetFacts, *names: str) -> Plan:
    return make_plan([load_submission(name) for name in names], "narrative", 1, facts, V1, tmp_path)


def test_the_smallest_comes_first_and_the_unknown_last(tmp_path: Path, facts: DatasetFacts) -> None:
    plan = plan_of(tmp_path, facts, "planted-q0.9", "planted-q0.3", "planted-q0.5")
    seconds = {"voxelboard/planted-q0.9": 50.0, "voxelboard/planted-q0.3": None, "voxelboard/planted-q0.5": 5.0}
    stages = stages_of(plan, Settings(V1), Workers((None,), 1, 64 * GIB), Known(seconds))  # type: ignore[arg-type]
    assert [stage.job.submission.label[-4:] for stage in stages] == ["q0.5", "q0.9", "q0.3"]
    assert [len(stage.cells) for stage in stages] == [3, 3, 3], "subjects share a process: it reads the model once"


def test_more_workers_than_models_share_the_subjects_after_the_features(tmp_path: Path, facts: DatasetFacts) -> None:
    plan = plan_of(tmp_path, facts, "planted-q0.9")
    first, *rest = stages_of(plan, Settings(V1, fresh=True), Workers((0, 1, 2, 3), 4, 64 * GIB))
    assert (first.kind, first.settings.device, first.settings.fresh) == ("features", "cuda", True)
    assert [(stage.kind, len(stage.cells), stage.after) for stage in rest] == [("scores", 1, (first.key,))] * 3
    assert not any(stage.settings.fresh for stage in rest), "what was just made is not made again"
    rows = make_plan(baseline_submissions(simulated=True)[:1], "narrative", 1, facts, V1, tmp_path)
    assert {stage.kind for stage in stages_of(rows, Settings(V1), Workers((None,) * 3, 1, GIB))} == {"scores"}


def test_subjects_are_split_when_they_do_not_fit_together(tmp_path: Path, facts: DatasetFacts) -> None:
    plan = plan_of(tmp_path, facts, "planted-q0.9")
    known = Known({"voxelboard/planted-q0.9": 1.0}, host_bytes=6 * GIB)
    whole = stages_of(plan, Settings(V1), Workers((None,), 1, 20 * GIB), known)  # type: ignore[arg-type]
    split = stages_of(plan, Settings(V1), Workers((None,), 1, 13 * GIB), known)  # type: ignore[arg-type]
    assert [len(stage.cells) for stage in whole] == [3]
    assert [(stage.kind, len(stage.cells)) for stage in split] == [("features", 3), ("scores", 2), ("scores", 1)]


def test_what_cannot_fit_is_told(tmp_path: Path, facts: DatasetFacts) -> None:
    (job,) = plan_of(tmp_path, facts, "planted-q0.9").jobs
    stage = Stage("scores", job.cells, Settings(V1), needs=Needs(1.0, 40 * GIB, 20 * GIB, 300 * GIB))
    here = Capacity(8, 32 * GIB, 30 * GIB, {0: 24 * GIB})
    assert too_large([stage], here, 400 * GIB) == [
        "voxelboard/planted-q0.9 · narrative · 3 subjects needs about 40.0 GiB of host memory, 32.0 GiB are there"
    ]
    lines = too_large([stage], replace(here, gpu_bytes={0: 16 * GIB}), 100 * GIB)
    assert [line.partition(" needs about ")[2] for line in lines] == [
        "40.0 GiB of host memory, 32.0 GiB are there",
        "20.0 GiB of GPU memory, 16.0 GiB are there",
        "300.0 GiB of disk, 100.0 GiB are free",
    ]
    assert too_large([Stage("scores", job.cells, Settings(V1))], here, 0) == [], "unknown is not too large"


def test_needs_are_work_in_seconds_and_bytes_of_this_machine() -> None:
    size = ModelSize(n_layers=13, n_features=768, n_parameters=124_000_000, weight_bytes=500 << 20, n_twins=3)
    work = Work(1e6, 3e13, 100, 10**9, 5 * GIB, 2 * GIB, 7 * GIB, 3 * 10**6)
    needs = needs_of(work, size, 2, 1, gpu=False)
    assert needs.host_bytes == 5 * GIB + (200 << 20) + (1000 << 20), "a twin is drawn beside the model"
    assert (needs.device_bytes, needs.disk_bytes) == (0, 7 * GIB + 2 * (1 << 20) + 3 * 10**6)
    on_gpu = needs_of(work, size, 2, 1, gpu=True)
    assert (on_gpu.host_bytes, on_gpu.device_bytes) == (5 * GIB + (100 << 20), 2 * GIB)
    reading, scores = feature_needs(work, size, 1, GIB, gpu=False), needs_of(work, size, 2, 1, gpu=False, stored=True)
    assert needs.seconds is not None
    assert reading.seconds is not None
    assert scores.seconds is not None
    assert needs.seconds == pytest.approx(reading.seconds + scores.seconds, rel=0.01)
    assert reading.disk_bytes == 7 * GIB
    assert scores.disk_bytes == 2 * (1 << 20) + 3 * 10**6
    faster = needs_of(work, size, 2, 4, gpu=False).seconds
    assert faster is not None
    assert 2.5 < needs.seconds / faster < 4, "matrix products are shared by threads, the rest is not"


def test_planted_built_in_and_unknown_models_have_a_size() -> None:
    planted = size_of(load_submission("planted-q0.9"), V1, offline=True, allow_remote_code=False)
    assert planted is not None
    from voxelboard.benchmark.models.simulated import planted_model

    model = planted_model(load_submission("planted-q0.9").model.id or "", "pretrained", None)
    assert (planted.n_layers, planted.n_features) == (model.n_layers, model.n_features)
    assert planted.n_twins == V1.score.n_twins
    guessed = size_of(load_submission("gpt2"), V1, offline=True, allow_remote_code=False)
    assert guessed is not None
    assert guessed.n_layers * guessed.n_features == pytest.approx(13 * 768, rel=0.35), "no file of it is here"
    assert guessed.passes(V1) == 2.0
    masked = ModelSize(12, 768, 110_000_000, 440_000_000, 3, "prefixes")
    assert masked.passes(V1) == 96.0, "each word is the last one of a prefix of 64 to 127"


def test_a_second_task_on_the_same_stimuli_waits_for_the_features_of_the_first(tmp_path: Path) -> None:
    facts = DatasetFacts("simulated-ablation", "1.0.0", "simulated", ("s1", "s2", "s3"), True)
    cells = [
        cell
        for task in ("narrative", "ablation")
        for cell in make_plan(
            [load_submission("planted-q0.9"), *baseline_submissions(simulated=True)[:1]], task, 1, facts, V1, tmp_path
        ).cells
    ]
    plan = Plan(tuple(cells))
    for workers in (Workers((None,) * 2, 1, GIB), Workers((None,) * 8, 1, GIB)):
        stages = [s for s in stages_of(plan, Settings(V1), workers) if not s.job.submission.is_baseline]
        first = next(stage for stage in stages if stage.job.task == "narrative")
        second = next(stage for stage in stages if stage.job.task == "ablation")
        assert first.after == ()
        assert second.after == (first.key,)


def test_times_are_corrected_by_what_stored_cells_took(tmp_path: Path, facts: DatasetFacts) -> None:
    from fake_science import scored_cell

    (job,) = plan_of(tmp_path, facts, "planted-q0.9").jobs
    record, _ = scored_cell(job, "s1")

    def took(*seconds: float):  # type: ignore[no-untyped-def]
        stages = {f"stage {i}": value for i, value in enumerate(seconds)}
        environment = Environment(
            versions={}, device="cpu", n_threads=1, seconds=stages, peak_memory_bytes=0, started_at=""
        )
        return record.model_copy(update={"environment": environment})

    pairs = [(Needs(seconds=10.0), took(20.0, 10.0)), (Needs(seconds=10.0), took(40.0)), (Needs(), took(1.0))]
    factor = calibration([*pairs, (Needs(seconds=10.0), took(990.0))])
    assert factor == 4.0, "the median"
    assert calibrate(Needs(seconds=2.0, host_bytes=3), factor) == Needs(seconds=8.0, host_bytes=3)
    assert calibration([]) is None


def test_workers_are_gpus_or_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cpu = Capacity(8, 32 * GIB, 30 * GIB, {})
    two_gpus = replace(cpu, gpu_bytes={0: GIB, 3: GIB})
    assert choose_workers("auto", "auto", 100, cpu) == Workers((None,) * 8, 1, 30 * GIB)
    assert choose_workers("auto", "auto", 3, cpu) == Workers((None,) * 3, 2, 30 * GIB)
    assert choose_workers(2, "cpu", 100, two_gpus).gpus == (None, None)
    assert choose_workers("auto", "auto", 100, two_gpus).gpus == (0, 3)
    assert choose_workers(3, "cuda", 100, two_gpus).gpus == (0, 3, 0)
    assert choose_workers("auto", "cuda:3", 100, two_gpus).gpus == (3,)
    with pytest.raises(MissingPrerequisite, match="no GPU"):
        choose_workers("auto", "cuda", 100, cpu)
    with pytest.raises(MissingPrerequisite, match="no GPU 1, only 0, 3"):
        choose_workers("auto", "cuda:1", 100, two_gpus)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert choose_workers(2, "cpu", 100, cpu).threads == 3, "who sets it means it"


def test_a_stage_travels_as_json(tmp_path: Path, facts: DatasetFacts) -> None:
    (job,) = plan_of(tmp_path, facts, "planted-q0.9").jobs
    stage = Stage("scores", job.cells, Settings(V1, batch_size=8, limit=2))
    back = Stage.from_json(stage.to_json(), tmp_path / "out")
    assert back.key == stage.key == "scores/voxelboard__planted-q0.9/" + stage.key.split("/", 2)[2]
    assert back.settings == stage.settings
    assert back.job.submission == job.submission
    assert {cell.path.parent for cell in back.cells} == {tmp_path / "out"}
    assert not any(cell.path.suffix == ".json" for cell in back.cells), "nobody takes it for a result"
    (first, *_) = back.split(back.cells, halve=True)
    assert (first.settings.batch_size, len(first.cells), first.attempt) == (4, 1, 2)
