# SPDX-License-Identifier: Apache-2.0
"""How a plan is run, as the flags say, and what that is expected to take."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

from voxelboard.benchmark.errors import UserError, unknown_name
from voxelboard.benchmark.settings import Settings
from voxelboard.runners.capacity import capacity, disk_free
from voxelboard.runners.console import say
from voxelboard.runners.local import Outcome
from voxelboard.runners.plan import Cell, Plan
from voxelboard.runners.staging import Estimator, Workers, gib, stages_of, too_large
from voxelboard.runners.workers.stages import Needs, Stage

RUNNERS: Final = ("local", "inline", "slurm")


@dataclass(frozen=True)
class Launch:
    """What the flags say.

    Attributes
    ----------
    runner : ``local``, ``inline`` or ``slurm``.
    timeout : minutes of a process; None for none.
    """

    runner: str = "local"
    workers: int | Literal["auto"] = "auto"
    timeout: float | None = None
    isolation: bool = True
    profile: Path | None = None
    quiet: bool = False
    verbose: bool = False

    @classmethod
    def checked(
        cls,
        runner: str,
        workers: str,
        timeout: float | None,
        isolation: bool,
        profile: Path | None,
        *,
        quiet: bool,
        verbose: bool,
    ) -> "Launch":
        """From text; raises UserError for what is not allowed."""
        if runner not in RUNNERS:
            raise unknown_name("--runner", runner, RUNNERS)
        if profile is not None and runner != "slurm":
            raise UserError("--profile is for a cluster", "add --runner slurm, or leave --profile out")
        if workers != "auto" and (not workers.isdecimal() or int(workers) < 1):
            raise UserError(f"--workers {workers!r}; allowed: auto or a number from 1")
        number: int | Literal["auto"] = "auto" if workers == "auto" else int(workers)
        return cls(runner, number, timeout, isolation, profile, quiet, verbose)


def checked_settings(
    protocol: str,
    device: str,
    dtype: str | None,
    batch_size: str,
    offline: bool,
    fresh: bool,
    limit: int | None,
    allow_remote_code: bool,
) -> Settings:
    """From flags to settings; raises UserError for what is not allowed."""
    from voxelboard.benchmark.models.spec import DTYPES
    from voxelboard.benchmark.protocol import load_protocol

    if dtype is not None and dtype not in DTYPES:
        raise unknown_name("--dtype", dtype, DTYPES)
    if batch_size != "auto" and (not batch_size.isdecimal() or int(batch_size) < 1):
        raise UserError(f"--batch-size {batch_size!r}; allowed: auto or a number from 1")
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not (kind == "cuda" and index.isdecimal())):
        raise UserError(f"--device {device!r}; allowed: auto, cpu, cuda, cuda:N")
    return Settings(
        protocol=load_protocol(protocol),
        device=device,
        dtype=dtype,
        batch_size="auto" if batch_size == "auto" else int(batch_size),
        offline=offline,
        fresh=fresh,
        limit=limit,
        allow_remote_code=allow_remote_code,
    )


def launch(plan: Plan, settings: Settings, how: Launch, records: Path) -> Outcome | None:
    """Run a plan; None when its cells were handed to a cluster.

    Raises
    ------
    UserError
        for a machine or a cluster that cannot run it, and a folder that cannot be written.
    KeyboardInterrupt
        after Ctrl-C; what is stored stays.
    """
    from voxelboard.runners.execution import can_fork

    if how.runner == "slurm":
        from voxelboard.runners.slurm.submission import submit_plan

        submit_plan(plan, settings, records, how.profile)
        return None
    if not plan.to_run:
        return Outcome()
    if how.runner == "local" and can_fork():
        return _run_pool(plan, settings, how, records)
    if how.runner == "local" and not how.quiet:
        say("models run one after the other in this process, and are not shut in: that needs Linux")
    from voxelboard.runners.local import execute
    from voxelboard.runners.progress import ConsoleReporter
    from voxelboard.runners.science import load_science

    with ConsoleReporter(quiet=how.quiet, verbose=how.verbose) as reporter:
        return execute(plan, load_science(), settings, reporter)


def _run_pool(plan: Plan, settings: Settings, how: Launch, records: Path) -> Outcome:
    from voxelboard.runners.execution import describe_workers, execute_stages
    from voxelboard.runners.workers.screen import PoolScreen

    workers = workers_for(plan, settings, how)
    stages = stages_of(plan, settings, workers, Estimator(plan, settings, workers))
    if not how.quiet:
        say(describe_workers(plan, workers))
    with PoolScreen(plan, stages, quiet=how.quiet, verbose=how.verbose) as screen:
        return execute_stages(
            stages,
            records,
            workers,
            screen,
            timeout_seconds=how.timeout * 60 if how.timeout else None,
            fenced=how.isolation,
        )


def workers_for(plan: Plan, settings: Settings, how: Launch) -> Workers:
    """The workers of this machine for a plan."""
    from voxelboard.runners.execution import choose_workers

    one = how.runner == "inline"
    return choose_workers(1 if one else how.workers, settings.device, len(plan.to_run), capacity())


@dataclass(frozen=True)
class Forecast:
    """What the stages of a plan are expected to take, and which of them cannot fit."""

    stages: Sequence[Stage]
    workers: Workers
    too_large: Sequence[str]
    calibrated: bool

    def of(self, cell: Cell) -> Needs:
        """A cell's share of the stage that it runs in, without a stage of its features; None where it cannot be told."""
        stage = self._stages.get(cell.label)
        if stage is None:
            return Needs(0.0, 0, 0, 0)
        needs, n = stage.needs, len(stage.cells)
        return replace(
            needs,
            seconds=None if needs.seconds is None else needs.seconds / n,
            disk_bytes=None if needs.disk_bytes is None else needs.disk_bytes // n,
        )

    @property
    def features(self) -> tuple[Stage, ...]:
        """The stages that make features once, for the cells of a model on a data set."""
        return tuple(stage for stage in self.stages if stage.kind == "features")

    def total(self) -> dict[str, Any]:
        """The whole: wall seconds with all workers, the largest memory of a stage, disk together."""
        seconds = [stage.needs.seconds for stage in self.stages]
        return {
            "seconds": sum(known for known in seconds if known) / len(self.workers.gpus),
            "unknown_stages": sum(known is None for known in seconds),
            "host_bytes": max((stage.needs.host_bytes or 0 for stage in self.stages), default=0),
            "device_bytes": max((stage.needs.device_bytes or 0 for stage in self.stages), default=0),
            "disk_bytes": sum(stage.needs.disk_bytes or 0 for stage in self.stages),
            "workers": len(self.workers.gpus),
            "calibrated": self.calibrated,
        }

    def summary(self) -> str:
        """``about 38 min with 2 workers, 21.0 GiB of host memory, ...``."""
        if not self.stages:
            return "nothing to run"
        total = self.total()
        n = total["workers"]
        memory = f"{gib(total['host_bytes'])} of host memory"
        gpu = f", {gib(total['device_bytes'])} of GPU memory" if total["device_bytes"] else ""
        unknown = f"; {total['unknown_stages']} stages cannot be estimated" if total["unknown_stages"] else ""
        trust = "timed by stored cells" if self.calibrated else "a first guess, within a factor of three"
        return (
            f"about {span(total['seconds'])} with {n} worker{'s' if n > 1 else ''} ({trust}), up to {memory}{gpu} at once, "
            f"{gib(total['disk_bytes'])} of disk{unknown}"
        )

    @cached_property
    def _stages(self) -> dict[str, Stage]:
        return {cell.label: stage for stage in self.stages if stage.kind == "scores" for cell in stage.cells}


def needs_columns(needs: Needs) -> tuple[str, str, str, str]:
    """Time, host memory, GPU memory and disk, for people; ``?`` where it cannot be told, blank for none."""
    sizes = (needs.host_bytes, needs.device_bytes, needs.disk_bytes)
    host, device, disk = ("?" if size is None else gib(size) if size else "" for size in sizes)
    return ("?" if needs.seconds is None else span(needs.seconds) if needs.seconds else "", host, device, disk)


def forecast(plan: Plan, settings: Settings, how: Launch, records: Path) -> Forecast:
    """What a plan would take here; loads no weights."""
    workers = workers_for(plan, settings, how)
    estimator = Estimator(plan, settings, workers)
    stages = stages_of(plan, settings, workers, estimator)
    return Forecast(stages, workers, too_large(stages, capacity(), disk_free(records)), estimator.calibrated)


def span(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
