# SPDX-License-Identifier: Apache-2.0
"""A real Slurm on this machine: two stages, chunks, a job that is killed, requeued, and a node that goes down."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm_cluster

from voxelboard.benchmark.errors import MissingPrerequisite, UserError
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.base import DatasetFacts
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import baseline_submissions, load_submission
from voxelboard.runners.plan import Plan, make_plan
from voxelboard.runners.slurm.jobs import runs_of
from voxelboard.runners.slurm.listing import cluster_jobs
from voxelboard.runners.slurm.profile import SlurmProfile, parameters, read_profile
from voxelboard.runners.slurm.submission import cluster_stages, submit_plan

DATA = "simulated-narrative:tiny"
FACTS = DatasetFacts("simulated-narrative:tiny", "1.0.0", "simulated", ("sim01", "sim02", "sim03"), True)
needs_slurm = pytest.mark.skipif(bool(slurm_cluster.missing()), reason=slurm_cluster.missing() or "-")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    pytest.importorskip("submitit", reason="needs submitit (pip install 'voxelboard[slurm]')")
    with slurm_cluster.slurm_cluster(tmp_path_factory.mktemp("slurm") / "cluster") as environment:
        yield environment


class Site:
    """A results folder whose cells go to the cluster."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, monkeypatch
        self.results = folder / "results"
        self.profile = folder / "profile.yaml"
        form = "{cpus: 1, mem: 300MB, minutes: 10}"
        self.profile.write_text(f"schema_version: 1\nfeatures: {form}\nscores: {form}\n", encoding="utf-8")

    def plan(self, *, rows: int = 0, model: bool = False) -> Plan:
        entries = [*([load_submission("planted-q0.9")] if model else []), *baseline_submissions(simulated=True)[:rows]]
        return make_plan(entries, "narrative", 1, FACTS, V1, self.results, data=DATA)

    def behave(self, **how: str) -> None:
        self._patch.setenv("POOL_SCIENCE", json.dumps(how))

    def submit(self, plan: Plan):  # type: ignore[no-untyped-def]
        return submit_plan(plan, Settings(V1), self.results, self.profile, "pool_science:load")

    def wait(self, until, seconds: float = 180.0) -> None:  # type: ignore[no-untyped-def]
        deadline = time.monotonic() + seconds
        while not until():
            if time.monotonic() > deadline:
                logs = [path.read_text(errors="replace")[-800:] for path in self.results.rglob("*_log.*")]
                pytest.fail("\n".join([slurm("squeue", "--array"), *logs]))
            time.sleep(0.3)

    def job_of(self, subject: str) -> str:
        (job,) = [job.id for place, job in cluster_jobs(self.results).items() if place[3] == subject]
        return job

    def state_of(self, subject: str) -> str:
        (job,) = [job.state for place, job in cluster_jobs(self.results).items() if place[3] == subject]
        return job

    def over(self) -> bool:
        return all(job.state == "ended" for job in cluster_jobs(self.results).values())


@pytest.fixture
def site(cluster: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    for name, value in cluster.items():
        monkeypatch.setenv(name, value)
    root = Path(__file__).parents[3]
    monkeypatch.setenv("PYTHONPATH", f"{root / 'tests' / 'support'}:{root / '.types'}")
    monkeypatch.setenv("VOXELBOARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VOXELBOARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return Site(tmp_path, monkeypatch)


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout


@needs_slurm
@pytest.mark.timeout(600)
def test_features_come_before_scores_in_arrays_that_the_cluster_takes(site: Site) -> None:
    plan = site.plan(rows=1, model=True)
    run = site.submit(plan)
    assert [key.partition("/")[0] for key in run.stages].count("features") == 1
    arrays = {job.partition("_")[0] for key, job in run.jobs.items() if key.startswith("scores")}
    assert len(run.jobs) == 7
    assert len(arrays) == 2, "six jobs, four in an array at most"
    assert all(isinstance(key, str) and key.count("/") >= 5 for key in run.jobs)
    dependencies = slurm("squeue", "--array", "--noheader", "--format=%F %E")
    assert site.submit(site.plan(rows=1, model=True)) is None, "what waits there is not submitted twice"
    site.wait(lambda: site.plan(rows=1, model=True).summary() == "6/6 cells stored, 0 to run")
    features = next(job for key, job in run.jobs.items() if key.startswith("features"))
    assert f"afterany:{features}" in dependencies
    log = run.log_of(next(key for key in run.jobs if key.startswith("scores"))).read_text(encoding="utf-8")
    assert "submitit" in log
    assert (site.folder / "cache" / "features").is_dir(), "the features lie in the store"
    site.wait(site.over)


@needs_slurm
@pytest.mark.timeout(600)
def test_a_job_that_is_killed_loses_its_own_cell_only(site: Site) -> None:
    site.behave(sim02="once:sleep:300")
    site.submit(site.plan(rows=1))
    site.wait(
        lambda: site.plan(rows=1).summary() == "2/3 cells stored, 1 to run" and "running" in site.state_of("sim02")
    )
    mark = site.folder / "cache" / "once-sim02"
    site.wait(mark.exists)
    job = site.job_of("sim02")
    killed = [pid for pid in all_processes() if runs_job(pid, job)]
    assert killed, "the job's process"
    for pid in killed:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    site.wait(site.over)
    assert site.plan(rows=1).summary() == "2/3 cells stored, 1 to run"
    again = site.submit(site.plan(rows=1))
    assert len(again.jobs) == 1, "only what is missing"
    site.wait(lambda: site.plan(rows=1).summary() == "3/3 cells stored, 0 to run")


@needs_slurm
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["requeue", "signal", "node"])
def test_a_job_that_is_requeued_goes_on(site: Site, how: str) -> None:
    site.behave(sim02="once:sleep:300")
    site.submit(site.plan(rows=1))
    site.wait((site.folder / "cache" / "once-sim02").exists)
    site.wait(lambda: (site.state_of("sim01"), site.state_of("sim03")) == ("ended", "ended"))
    assert len(site.plan(rows=1).stored) == 2
    job = site.job_of("sim02")
    if how == "requeue":  # as the cluster does for a job of higher priority
        slurm("scontrol", "requeue", job)
    elif how == "signal":  # as it does before the time limit: submitit has the job queued again
        slurm("scancel", "--signal=USR2", job)
    else:
        node = slurm_cluster.node()
        slurm("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
        site.wait(lambda: "running" not in site.state_of("sim02"))
        assert "pending" in site.state_of("sim02"), "it waits for a node"
        slurm("scontrol", "update", f"NodeName={node}", "State=RESUME")

    def done() -> bool:
        # Slurm lets a requeued job wait for two minutes
        if how == "node":  # what failed to start while the node came back is held, for an operator to let go
            slurm("scontrol", "update", f"NodeName={slurm_cluster.node()}", "State=RESUME")
            slurm("scontrol", "release", job)
        slurm("scontrol", "update", f"JobId={job}", "StartTime=now")
        return site.plan(rows=1).summary() == "3/3 cells stored, 0 to run"

    site.wait(done)
    site.wait(site.over)


def all_processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def runs_job(pid: int, job: str) -> bool:
    array, _, task = job.partition("_")
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    return {f"SLURM_ARRAY_JOB_ID={array}", f"SLURM_ARRAY_TASK_ID={task}"} <= set(environment)


def test_a_profile_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("schema_version: 1\nfeatures: {gpu: 1}\nscores: {mem: lots}\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_profile(path)
    assert "p.yaml:2: unknown key features.gpu" in str(caught.value)
    assert "'gpus'" in str(caught.value)
    assert "p.yaml:3: scores.mem: got 'lots'" in str(caught.value)
    path.write_text(
        "schema_version: 1\nfeatures: {gpus: 1, partition: a100, minutes: 90}\nsetup: ['module load cuda']\n",
        encoding="utf-8",
    )
    profile = read_profile(path)
    told = parameters(profile.features, profile, "x", ["7", "8"])
    assert told["gres"] == "gpu:1"
    assert (told["partition"], told["time"], told["setup"]) == ("a100", 90, ["module load cuda"])
    assert told["dependency"] == "afterany:7:8"
    assert told["additional_parameters"] == {"requeue": True}


def test_stages_of_a_cluster_share_features_and_split_subjects(tmp_path: Path) -> None:
    entries = [load_submission("planted-q0.9"), *baseline_submissions(simulated=True)[:1]]
    plan = make_plan(entries, "narrative", 1, FACTS, V1, tmp_path, data=DATA)
    profile = SlurmProfile(schema_version=1, subjects_per_job=2)
    stages = cluster_stages(plan, Settings(V1), profile)
    assert [(stage.kind, len(stage.cells), len(stage.after)) for stage in stages] == [
        ("features", 3, 0),
        ("scores", 2, 1),
        ("scores", 1, 1),
        ("scores", 2, 0),
        ("scores", 1, 0),
    ]
    assert len({stage.key for stage in stages}) == 5
    again = make_plan(entries, "ablation", 1, FACTS, V1, tmp_path, data=DATA)
    both = cluster_stages(Plan((*plan.cells, *again.cells)), Settings(V1), profile)
    first, second = (stage for stage in both if stage.kind == "features")
    assert (first.after, second.after) == ((), (first.key,)), "the second task finds the stories read"
    on_gpu = profile.features.model_copy(update={"gpus": 1})
    stages = cluster_stages(plan, Settings(V1), profile.model_copy(update={"features": on_gpu}))
    assert [stage.settings.device for stage in stages[:2]] == ["cuda", "cpu"]


def test_without_slurm_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    plan = make_plan([load_submission("planted-q0.9")], "narrative", 1, FACTS, V1, tmp_path, data=DATA)
    with pytest.raises(MissingPrerequisite, match="no Slurm here"):
        submit_plan(plan, Settings(V1), tmp_path, None)
    assert cluster_jobs(tmp_path) == {}
    assert runs_of(tmp_path) == []
