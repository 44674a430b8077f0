# SPDX-License-Identifier: Apache-2.0
"""``voxelboard selftest``: simulated worlds of known truth, each invariant with its measured figure and its bound."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxelboard.benchmark.errors import UserError
from voxelboard.runners.console import put_json, say
from voxelboard.runners.options import Json, Quiet, split_names

if TYPE_CHECKING:
    from voxelboard.benchmark.selftest.findings import Finding

DEFAULT_REPORT = Path("selftest.html")


def selftest(
    full: Annotated[
        bool, typer.Option("--full", envvar="VOXELBOARD_FULL", help="More simulations (minutes), and a report.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            envvar="VOXELBOARD_ONLY",
            help="Only these invariants or letters, such as A1,E5. [default: all]",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            envvar="VOXELBOARD_REPORT",
            help=f"Write an HTML report here. [default: {DEFAULT_REPORT} with --full, else none]",
            show_default=False,
            dir_okay=False,
        ),
    ] = None,
    real: Annotated[
        str | None,
        typer.Option(
            "--real",
            envvar="VOXELBOARD_REAL",
            metavar="DATA",
            help="Instead of simulated worlds, a narrative data set that is at hand: does a shuffled split leak, are null "
            "features and equal models found to be so?",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", envvar="VOXELBOARD_SEED", min=0, help="Of everything random.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Check the measurement on simulated data of known truth. Exit code 0 when every invariant holds, 1 otherwise."""
    target = report or (DEFAULT_REPORT if full else None)
    findings: list[Finding] = []
    stopped = False
    try:
        for finding in _findings(full, seed, split_names(only), real, (lambda message: None) if quiet else say):
            findings.append(finding)
            if not finding.passed:
                say(f"{finding.id} failed: {_what(finding)}")
    except KeyboardInterrupt:
        stopped = True
        say(_rest(findings, full, seed, split_names(only), real))
    if target is not None:
        from voxelboard.runners.selftest_report import write_report

        write_report(target, findings, full=full, seed=seed, real=real)
        say(f"report: {target}")
    if as_json:
        put_json({"full": full, "seed": seed, "real": real, "findings": [finding.as_json() for finding in findings]})
    else:
        _put_findings(findings)
    if stopped:
        raise typer.Exit(130)
    raise typer.Exit(0 if all(finding.passed for finding in findings) else 1)


def _rest(findings: list["Finding"], full: bool, seed: int, only: list[str] | None, real: str | None) -> str:
    """What was stopped, and the command for what it did not come to; every invariant has random numbers of its own."""
    from voxelboard.benchmark.selftest.suite import chosen_invariants

    if real is not None:
        return "stopped"
    done = {finding.id for finding in findings}
    left = ",".join(invariant.id for invariant in chosen_invariants(only) if invariant.id not in done)
    flags = " --full" if full else ""
    return f"stopped after {len(done)}; the rest: voxelboard selftest{flags} --seed {seed} --only {left}"


def _findings(
    full: bool, seed: int, only: list[str] | None, real: str | None, progress: Callable[[str], None]
) -> Iterator["Finding"]:
    from voxelboard.benchmark.selftest.suite import run_selftest

    if real is None:
        return run_selftest(full=full, seed=seed, only=only, progress=progress)
    if only is not None:
        raise UserError("--only chooses among simulated worlds", "leave out --only or --real")
    from voxelboard.benchmark.readers.registry import open_dataset
    from voxelboard.benchmark.selftest.real import run_real

    data = open_dataset(real, "narrative")
    if data.kind != "real":
        raise UserError(f"{real} is simulated", "leave out --real: simulated worlds of known truth are the default")
    return run_real(data, full=full, seed=seed, progress=progress)


def _what(finding: "Finding") -> str:
    if finding.stopped:
        return finding.stopped
    bad = [figure for figure in finding.figures if not figure.passed]
    return "; ".join(f"{figure.name} is {figure.value:.4g}, bound {figure.bound}" for figure in bad)


def _put_findings(findings: list["Finding"]) -> None:
    """One row a figure (stdout); the id stands in the first row of its invariant."""
    import sys

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("id", no_wrap=True)
    table.add_column("what")
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("bound")
    table.add_column("pass", no_wrap=True)
    for finding in findings:
        table.add_row(finding.id, f"[bold]{escape(finding.title)}[/bold]", "", finding.n, _verdict(finding.passed))
        for figure in finding.figures:
            row = (f"  {escape(figure.name)}", f"{figure.value:.4g}", figure.bound)
            table.add_row("", *row, "" if figure.passed else _verdict(False))
        if finding.stopped:
            table.add_row("", f"  {escape(finding.stopped)}", "", "", "")
    # a pipe has no width of its own, and wrapped cells are hard to search
    width = None if sys.stdout.isatty() else 140
    console = Console(file=sys.stdout, width=width, highlight=False)
    console.print(table)
    n_passed = sum(finding.passed for finding in findings)
    seconds = sum(finding.seconds for finding in findings)
    console.print(f"{n_passed} of {len(findings)} invariants hold, {seconds:.0f} s")


def _verdict(passed: bool) -> str:
    return "[green]ok[/green]" if passed else "[bold red]FAIL[/bold red]"
