# SPDX-License-Identifier: Apache-2.0
"""The profile of a cluster: a YAML file that says what a job may take and how its shell is set up."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from voxelboard.benchmark.strict_yaml import read_yaml, validate

_Word = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\n\r]*$")]
_Memory = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?[KMGT]?B?$")]


class JobProfile(BaseModel):
    """What one array of jobs asks the cluster for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partition: _Word | None = None
    account: _Word | None = None
    qos: _Word | None = None
    constraint: _Word | None = None
    gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs of a job, 0 or 1: a model runs on one."""
    cpus: Annotated[int, Field(ge=1)] = 4
    mem: _Memory = "32GB"
    minutes: Annotated[int, Field(ge=1)] = 240
    """Time limit of a job. One that runs into it is queued again (three times) and goes on where it stopped."""
    at_once: Annotated[int, Field(ge=1)] = 64
    """Jobs of an array that run at the same time."""


class SlurmProfile(BaseModel):
    """A profile file: one form for both kinds of jobs, and what differs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1]
    """Version of this form."""
    features: JobProfile = JobProfile()
    """Jobs that read the stimuli with a model; one each model and data set."""
    scores: JobProfile = JobProfile()
    """Jobs that fit and score."""
    subjects_per_job: Annotated[int, Field(ge=1)] = 1
    """Subjects that are scored in one job. Those who heard the same stories share a factorisation."""
    setup: tuple[_Word, ...] = ()
    """Lines of shell before Python starts (``module load cuda``)."""
    resubmissions: Annotated[int, Field(ge=0)] = 3
    """How often a job that ran into its time limit is queued again."""


def read_profile(path: Path | None) -> SlurmProfile:
    """Read a profile, or take the cluster's defaults; raises UserError with file, line, key and what is allowed."""
    return SlurmProfile(schema_version=1) if path is None else validate(read_yaml(path), SlurmProfile)


def parameters(job: JobProfile, profile: SlurmProfile, name: str, after: list[str]) -> dict[str, Any]:
    """What submitit's Slurm executor is told.

    ``after`` are arrays to wait for, also when some of their jobs failed: the cells of the others go on, and theirs say
    why not.
    """
    given = {"partition": job.partition, "account": job.account, "qos": job.qos, "constraint": job.constraint}
    return {
        "job_name": name,
        "time": job.minutes,
        "mem": job.mem,
        "cpus_per_task": job.cpus,
        "array_parallelism": job.at_once,
        "setup": list(profile.setup) or None,
        "signal_delay_s": 60,
        "additional_parameters": {"requeue": True},
        **({"dependency": "afterany:" + ":".join(after)} if after else {}),
        **({"gres": f"gpu:{job.gpus}"} if job.gpus else {}),
        **{key: value for key, value in given.items() if value is not None},
    }
