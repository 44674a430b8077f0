# SPDX-License-Identifier: Apache-2.0
"""The ``voxelboard`` command: its verbs, and how exceptions become exit codes.

0 all asked cells are done · 1 a cell failed, or a bug · 2 usage or schema · 3 a prerequisite is missing · 130 interrupted.
What a verb needs is imported when it runs, so that ``--help`` answers at once.
"""

import sys
import traceback
from typing import Annotated

import typer

from voxelboard import __version__
from voxelboard.benchmark.errors import InvalidNumbers, UserError
from voxelboard.runners.commands.analyse import analyse
from voxelboard.runners.commands.cache import cache_app
from voxelboard.runners.commands.captions import captions_app
from voxelboard.runners.commands.check import check
from voxelboard.runners.commands.compare import compare
from voxelboard.runners.commands.data import data_app
from voxelboard.runners.commands.doctor import doctor
from voxelboard.runners.commands.explain import explain
from voxelboard.runners.commands.export import export
from voxelboard.runners.commands.listing import list_app
from voxelboard.runners.commands.nightly import nightly
from voxelboard.runners.commands.queue import queue_app
from voxelboard.runners.commands.render import render
from voxelboard.runners.commands.run import run
from voxelboard.runners.commands.selftest import selftest
from voxelboard.runners.commands.serve import serve
from voxelboard.runners.commands.status import status
from voxelboard.runners.commands.study import study_app
from voxelboard.runners.commands.verify import verify
from voxelboard.runners.console import say, say_error

app = typer.Typer(
    name="voxelboard",
    help="Measure how well language models predict human brain activity, and rank them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Measure how well language models predict human brain activity, and rank them."""


app.command()(run)
app.command()(check)
app.add_typer(list_app, name="list")
app.command()(status)
app.command()(render)
app.command()(serve)
app.command()(explain)
app.command()(compare)
app.command()(analyse)
app.add_typer(captions_app, name="captions")
app.add_typer(data_app, name="data")
app.add_typer(queue_app, name="queue")
app.command()(nightly)
app.add_typer(cache_app, name="cache")
app.command()(export)
app.command()(verify)
app.command()(doctor)
app.command()(selftest)
app.add_typer(study_app, name="study")


def run_cli(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code. Every exception becomes a message and a code here."""
    try:
        result = app(arguments, standalone_mode=True)
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except UserError as error:
        say_error(error)
        return error.exit_code
    except InvalidNumbers as error:
        say(f"error: the numbers would be invalid, so the run stopped: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; the same command resumes")
        return 130
    except BrokenPipeError:
        # The reader of stdout left (`voxelboard list | head`): nothing to tell, but Python would complain at exit.
        sys.stderr.close()
        return 0
    except Exception:  # noqa: BLE001 - the last line of defence: a bug is shown whole
        traceback.print_exc()
        say("this is a bug in voxelboard; please report it with the lines above")
        return 1
    return result if isinstance(result, int) else 0
