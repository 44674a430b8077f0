# SPDX-License-Identifier: Apache-2.0
"""Which cells have jobs on a cluster, in which state these are, and where their logs lie. Needs no submitit."""

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from voxelboard.runners.slurm.jobs import SlurmRun, runs_of

_ACTIVE = "PENDING,RUNNING,CONFIGURING,COMPLETING,REQUEUED,REQUEUE_HOLD,SUSPENDED,RESIZING,SIGNALING,STAGE_OUT"


@dataclass(frozen=True)
class ClusterJob:
    """The latest job of a cell; ``state`` is Slurm's word with its reason, or ``ended``."""

    id: str
    state: str
    log: Path


def cluster_jobs(results: Path) -> dict[tuple[str, str, str, str], ClusterJob]:
    """(submission, task, data, subject) of each cell that was ever submitted -> its latest job."""
    runs = runs_of(results.resolve())
    if not runs:
        return {}
    states = job_states({job.partition("_")[0] for run in runs for job in run.jobs.values()})
    found = {}
    for run in runs:
        for key, job in run.jobs.items():
            stage = run.content(key)
            if stage["kind"] == "scores":
                place = (str(stage["submission"]["name"]), str(stage["task"]), str(stage["data"]))
                state = states.get(job, "ended")
                found.update(
                    {(*place, str(subject)): ClusterJob(job, state, run.log_of(key)) for subject in stage["subjects"]}
                )
    return found


def active_jobs(results: Path) -> dict[str, tuple[SlurmRun, str]]:
    """Key of each stage that waits or runs on the cluster -> its run and the state of its job."""
    runs = runs_of(results)
    states = job_states({job.partition("_")[0] for run in runs for job in run.jobs.values()})
    return {key: (run, states[job]) for run in runs for key, job in run.jobs.items() if job in states}


def job_states(arrays: Iterable[str]) -> dict[str, str]:
    """Id of each job (``ARRAY_TASK``) that is not over -> its state; empty where there is no Slurm."""
    asked = sorted(arrays)
    if not asked or shutil.which("squeue") is None:
        return {}
    command = [
        "squeue",
        "--noheader",
        "--array",
        "--format=%F_%K %T %r",
        f"--states={_ACTIVE}",
        f"--jobs={','.join(asked)}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:  # ids that Slurm has forgotten
        command = [part for part in command if not part.startswith("--jobs")]
        done = subprocess.run([*command, "--me"], capture_output=True, text=True, timeout=60, check=False)
    states = {}
    for line in done.stdout.splitlines():
        job, state, reason = (*line.split(maxsplit=2), "", "")[:3]
        states[job.removesuffix("_N/A")] = state.lower() if reason in ("", "None") else f"{state.lower()} ({reason})"
    return states
