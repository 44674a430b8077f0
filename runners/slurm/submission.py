# SPDX-License-Identifier: Apache-2.0
"""Hands the stages of a plan to Slurm: an array of features, then arrays of scores that wait for it."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.errors import MissingPrerequisite, UserError
from voxelboard.benchmark.optional import load_optional
from voxelboard.benchmark.settings import Settings
from voxelboard.runners.console import say
from voxelboard.runners.plan import Plan
from voxelboard.runners.slurm.jobs import FOLDER, SlurmRun, StageJob
from voxelboard.runners.slurm.listing import active_jobs
from voxelboard.runners.slurm.profile import JobProfile, SlurmProfile, parameters, read_profile
from voxelboard.runners.workers.child import SCIENCE
from voxelboard.runners.workers.stages import Stage

_DEFAULT_ARRAY_SIZE = 1001  # Slurm's own


def load_submitit() -> Any:
    """The package that talks to Slurm, or one message how to get it."""
    return load_optional("submitit", "a job of a Slurm cluster", "slurm")


def submit_plan(
    plan: Plan, settings: Settings, results: Path, profile_file: Path | None, science: str = SCIENCE
) -> SlurmRun | None:
    """Submit what a plan has left to run, without the cells that wait on the cluster already; None for nothing.

    Raises
    ------
    MissingPrerequisite
        without Slurm or submitit.
    UserError
        for a faulty profile, and when the cluster refuses the jobs.
    """
    submitit = load_submitit()
    if shutil.which("sbatch") is None:
        raise MissingPrerequisite(
            "there is no Slurm here: sbatch was not found", "log in to the cluster, or use --runner local"
        )
    profile = read_profile(profile_file)
    results = results.resolve()
    waiting = set(active_jobs(results))
    asked = cluster_stages(plan, settings, profile)
    stages = [stage for stage in asked if stage.key not in waiting]
    skipped = sum(len(stage.cells) for stage in asked if stage.key in waiting and stage.kind == "scores")
    if skipped:
        say(f"{skipped} cells wait on the cluster already")
    if not any(stage.kind == "scores" for stage in stages):
        say("nothing to submit")
        return None
    run = _make_run(results, stages, science)
    features = [stage for stage in stages if stage.kind == "features"]
    first = _submit(submitit, run, [s for s in features if not s.after], profile.features, profile, [])
    # what a model has read for one task it does not read again for another on the same stimuli
    first += _submit(submitit, run, [s for s in features if s.after], profile.features, profile, first)
    _submit(submitit, run, [s for s in stages if s.kind == "scores"], profile.scores, profile, first)
    say(f"submitted {len(stages)} jobs; `voxelboard status` shows them, their logs are in {run.logs}")
    return run


def cluster_stages(plan: Plan, settings: Settings, profile: SlurmProfile) -> list[Stage]:
    """The features of each model on each data set once, and its cells in jobs of ``subjects_per_job``."""
    stages: list[Stage] = []
    reads: dict[tuple[str, str], tuple[str, ...]] = {}  # (model, data) -> the features of an earlier task
    for job in plan.jobs:
        after: tuple[str, ...] = ()
        if not job.submission.is_baseline:
            place = (job.submission.label, job.data)
            features = Stage("features", job.cells, _on(settings, profile.features), reads.get(place, ()))
            stages.append(features)
            reads.setdefault(place, (features.key,))
            after = (features.key,)
        scores = replace(_on(settings, profile.scores), fresh=settings.fresh and not after)
        size = profile.subjects_per_job
        stages += [
            Stage("scores", job.cells[start : start + size], scores, after) for start in range(0, len(job.cells), size)
        ]
    return stages


def max_array_size() -> int:
    """Most jobs of an array that this cluster takes."""
    done = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, timeout=60, check=False)
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", done.stdout, flags=re.MULTILINE)
    return int(match[1]) if match else _DEFAULT_ARRAY_SIZE


def _submit(
    submitit: Any, run: SlurmRun, stages: Sequence[Stage], job: JobProfile, profile: SlurmProfile, after: list[str]
) -> list[str]:
    """Submit stages in arrays that the cluster takes; returns the ids of the arrays."""
    size, arrays = max_array_size(), []
    for start in range(0, len(stages), size):
        chunk = stages[start : start + size]
        executor = submitit.SlurmExecutor(folder=run.logs, max_num_timeout=profile.resubmissions)
        executor.update_parameters(**parameters(job, profile, f"voxelboard-{chunk[0].kind}", after))
        keys = [stage.key for stage in chunk]
        try:
            jobs = executor.map_array(StageJob(), [str(run.folder)] * len(keys), keys)
        except (submitit.core.utils.FailedJobError, subprocess.CalledProcessError) as error:
            raise UserError(
                f"the cluster refused the jobs: {str(error).strip()[-500:]}", "correct the profile (--profile)"
            ) from error
        # an array of one task is a job without an index
        ids = [one.job_id if "_" in one.job_id else f"{one.job_id}_N/A" for one in jobs]
        run.jobs.update({key: identifier.removesuffix("_N/A") for key, identifier in zip(keys, ids, strict=True)})
        arrays.append(ids[0].partition("_")[0])
        _write(run)
    return arrays


def _make_run(results: Path, stages: Sequence[Stage], science: str) -> SlurmRun:
    number = 1 + max((int(folder.name[4:]) for folder in (results / FOLDER).glob("run-*")), default=0)
    folder = results / FOLDER / f"run-{number:04d}"
    (folder / "stages").mkdir(parents=True)
    names = {stage.key: f"{index:05d}" for index, stage in enumerate(stages)}
    for stage in stages:
        (folder / "stages" / names[stage.key]).write_text(stage.to_json(), encoding="utf-8")
    run = SlurmRun(folder, names, {}, science)
    _write(run)
    return run


def _write(run: SlurmRun) -> None:
    text = json.dumps({"stages": run.stages, "jobs": run.jobs, "science": run.science}, indent=1, sort_keys=True)
    replace_file(run.folder / "run", lambda file: file.write(text.encode()))


def _on(settings: Settings, job: JobProfile) -> Settings:
    return replace(settings, device="cuda" if job.gpus else "cpu")
