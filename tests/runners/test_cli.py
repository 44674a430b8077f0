# SPDX-License-Identifier: Apache-2.0
"""The command line: exit codes, what goes to stdout and what to stderr, and how fast help is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from fake_science import FakeScience

from voxelboard.benchmark.errors import MissingPrerequisite
from voxelboard.benchmark.records import read_record, write_record
from voxelboard.benchmark.submission import BASELINES
from voxelboard.runners.cli import app, run_cli
from voxelboard.runners.plan import Job

TINY = ("--data", "simulated-narrative:tiny", "--no-render")
N_CELLS = (2 + len(BASELINES)) * 3  # two models and the mandatory rows, three subjects
TWO = ("-m", "planted-q0.9", "-m", "planted-q0.3", *TINY)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run_cli(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


def test_help_loads_nothing_heavy() -> None:
    loaded = python(
        "import sys\n"
        "from voxelboard.runners.cli import run_cli\n"
        "for arguments in (['--help'], ['run', '--help'], ['data', '--help']):\n"
        "    assert run_cli(arguments) == 0\n"
        "heavy = 'torch transformers datasets numpy scipy pandas himalaya huggingface_hub'.split()\n"
        "print('LOADED', [name for name in heavy if name in sys.modules])\n"
    )
    assert loaded.splitlines()[-1] == "LOADED []"


def test_import_and_listing_load_no_torch() -> None:
    loaded = python(
        "import sys, voxelboard\n"
        "assert 'torch' not in sys.modules\n"
        "from voxelboard.runners.cli import run_cli\n"
        "for arguments in (['list', 'submissions'], ['list', 'tasks'], ['data', 'list'], ['list', 'protocols']):\n"
        "    assert run_cli(arguments) == 0\n"
        "print('LOADED', [name for name in ('torch', 'transformers', 'datasets') if name in sys.modules])\n"
    )
    assert loaded.splitlines()[-1] == "LOADED []"


def test_the_public_names_are_the_verbs() -> None:
    import voxelboard

    public = {"evaluate", "load_submission", "load_task", "load_records", "compare", "render"}
    assert public < set(dir(voxelboard))
    assert callable(voxelboard.load_submission)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = voxelboard.nothing  # type: ignore[attr-defined]


def test_every_flag_has_its_variable() -> None:
    def options(command: object) -> list[tuple[str, object]]:
        here = [
            (parameter.opts[0], parameter.envvar)
            for parameter in command.params  # type: ignore[attr-defined]
            if parameter.param_type_name == "option"
        ]
        return here + [found for sub in getattr(command, "commands", {}).values() for found in options(sub)]

    without = {"--help", "-h", "--version", "--install-completion", "--show-completion"}
    found = [(name, envvar) for name, envvar in options(typer.main.get_command(app)) if name not in without]
    assert len(found) > 20
    assert [name for name, envvar in found if not str(envvar).startswith("VOXELBOARD_")] == []


def test_run_stores_then_resumes(capsys: pytest.CaptureFixture[str], here: Path, science: FakeScience) -> None:
    code, out, err = run(capsys, "run", *TWO)
    assert code == 0
    assert f"{N_CELLS} of {N_CELLS} cells have scores" in out
    assert f"0/{N_CELLS} cells stored, {N_CELLS} to run" in err
    assert "cells stored" not in out
    assert len(list((here / "results").rglob("*.json"))) == N_CELLS

    science.asked.clear()
    code, again, err = run(capsys, "run", *TWO)
    assert code == 0
    assert science.asked == []
    assert again == out, "the result does not tell who computed it"
    assert f"{N_CELLS}/{N_CELLS} cells stored, 0 to run" in err

    assert run(capsys, "run", *TWO, "--fresh", "--subjects", "sim01")[0] == 0
    assert {subjects for _, subjects in science.asked} == {("sim01",)}


def test_dry_run_runs_nothing(capsys: pytest.CaptureFixture[str], here: Path, science: FakeScience) -> None:
    code, out, err = run(capsys, "run", *TWO, "--dry-run", "--json")
    plan = json.loads(out)
    assert code == 0
    assert (plan["stored"], plan["to_run"], len(plan["cells"])) == (0, N_CELLS, N_CELLS)
    assert f"0/{N_CELLS} cells stored" in err
    assert science.asked == []
    assert not (here / "results").exists()


def test_a_failed_cell_is_code_1_and_the_others_are_kept(
    capsys: pytest.CaptureFixture[str], here: Path, science: FakeScience
) -> None:
    def fail(job: Job, subject: str) -> None:
        if job.submission.label.endswith("q0.3"):
            raise ZeroDivisionError("oh no")

    science.fail = fail
    code, out, err = run(capsys, "run", *TWO)
    assert code == 1
    assert f"{N_CELLS - 3} of {N_CELLS} cells have scores, 3 failed" in out
    assert "failed (bug)" in out
    assert "ZeroDivisionError: oh no" in err
    assert "Traceback" not in out + err
    assert "Traceback" in run(capsys, "run", *TWO, "-v")[2]

    code, out, _ = run(capsys, "status", *TWO[:-1], "--json")
    status = json.loads(out)
    assert code == 0
    assert status["counts"] == {"stored": N_CELLS - 3, "failed": 3}
    assert {cell["note"] for cell in status["cells"] if cell["state"] == "failed"} == {"bug: ZeroDivisionError: oh no"}
    assert "failed: voxelboard/planted-q0.3" in run(capsys, "status", *TWO[:-1])[1]


def test_only_missing_prerequisites_are_code_3(
    capsys: pytest.CaptureFixture[str], here: Path, science: FakeScience
) -> None:
    def fail(job: Job, subject: str) -> None:
        raise MissingPrerequisite("no such model", "type this")

    science.fail = fail
    code, out, err = run(capsys, "run", *TWO, "--json")
    result = json.loads(out)
    assert code == 3
    assert result["failed"] == N_CELLS
    assert {cell["error"] for cell in result["cells"]} == {"not_found"}
    assert "type this" in err


def test_ctrl_c_is_code_130_and_resumable(capsys: pytest.CaptureFixture[str], here: Path, science: FakeScience) -> None:
    def interrupt(job: Job, subject: str) -> None:
        if job.submission.label.endswith("q0.3"):
            raise KeyboardInterrupt

    science.fail = interrupt
    code, out, err = run(capsys, "run", *TWO)
    assert code == 130
    assert out == ""
    assert f"interrupted: 3 of {N_CELLS} cells are stored; the same command resumes" in err
    science.fail = lambda job, subject: None
    code, _, err = run(capsys, "run", *TWO)
    assert code == 0
    assert f"3/{N_CELLS} cells stored, {N_CELLS - 3} to run" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("run", "-m", "nobody/nothing", *TINY), 2, "unknown submission 'nobody/nothing'; allowed: "),
        (("run", "-t", "narrativ", *TINY), 2, "Did you mean 'narrative'"),
        (("run", "--data", "simulated-narrativ"), 2, "Did you mean 'simulated-narrative'"),
        (("run", "--protocol", "v0", *TINY), 2, "unknown protocol 'v0'; allowed: v1"),
        (("run", "--device", "tpu", *TINY), 2, "--device 'tpu'; allowed: auto, cpu, cuda, cuda:N"),
        (("run", "--dtype", "float8", *TINY), 2, "unknown --dtype 'float8'"),
        (("run", "-b", "0", *TINY), 2, "--batch-size '0'; allowed: auto or a number from 1"),
        (("run", "--subjects", "sim99", *TINY), 2, "unknown subject of simulated-narrative:tiny 'sim99'"),
        (("run", "-m", "missing.yaml", *TINY), 3, "no file missing.yaml"),
        (("run", "--data", "alice2016", "-m", "gpt2"), 3, "voxelboard data add alice2016 --from PATH"),
        (("data", "path", "alice2016"), 3, "not on this machine"),
        (("data", "add", "alice2016", "--from", "nowhere"), 3, "no folder"),
        (("explain", "planted-q0.9"), 2, "no folder results"),
        (("check", "missing.yaml"), 3, "no file missing.yaml"),
    ],
)
def test_what_a_user_can_fix_is_one_message_without_traceback(
    capsys: pytest.CaptureFixture[str],
    here: Path,
    science: FakeScience,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    got, out, err = run(capsys, *arguments)
    assert (got, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [("run", "--modle", "x"), ("walk",), ("run", "--limit", "many"), ("check",)])
def test_usage_errors_are_code_2(capsys: pytest.CaptureFixture[str], here: Path, arguments: tuple[str, ...]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert "Error" in err


def test_a_bug_is_shown_whole_and_is_code_1(
    capsys: pytest.CaptureFixture[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise AttributeError("nobody foresaw this")

    monkeypatch.setattr("voxelboard.runners.machine.describe_machine", broken)
    code, out, err = run(capsys, "doctor")
    assert (code, out) == (1, "")
    assert "Traceback" in err
    assert "nobody foresaw this" in err


def test_quiet_says_nothing_but_the_result(
    capsys: pytest.CaptureFixture[str], here: Path, science: FakeScience
) -> None:
    code, out, err = run(capsys, "run", *TWO, "--quiet")
    assert (code, err) == (0, "")
    assert "cells have scores" in out


def test_a_limited_run_is_stored_apart(capsys: pytest.CaptureFixture[str], here: Path, science: FakeScience) -> None:
    run(capsys, "run", *TWO)
    before = {path: path.read_bytes() for path in (here / "results" / "v1").rglob("*") if path.is_file()}
    code, out, _ = run(capsys, "run", *TWO, "--limit", "2", "--json")
    assert code == 0
    assert all(cell["record"].startswith("results-limit-2/v1/") for cell in json.loads(out)["cells"])
    assert {path: path.read_bytes() for path in before} == before
    science.asked.clear()
    assert run(capsys, "run", *TWO, "--limit", "2")[0] == 0
    assert science.asked == [], "it resumes as well"


def test_variables_stand_for_flags(
    capsys: pytest.CaptureFixture[str], here: Path, science: FakeScience, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXELBOARD_MODEL", "planted-q0.9")
    monkeypatch.setenv("VOXELBOARD_DATA", "simulated-narrative:tiny")
    monkeypatch.setenv("VOXELBOARD_SUBJECTS", "sim01,sim02")
    monkeypatch.setenv("VOXELBOARD_OUTPUT", "elsewhere")
    monkeypatch.setenv("VOXELBOARD_RENDER", "false")
    assert run(capsys, "run")[0] == 0
    assert len(list((here / "elsewhere").rglob("*.json"))) == (1 + len(BASELINES)) * 2


def test_records_name_what_was_asked(capsys: pytest.CaptureFixture[str], here: Path, science: FakeScience) -> None:
    run(capsys, "run", *TWO)
    _, out, _ = run(capsys, "run", *TWO, "--json")
    for cell in json.loads(out)["cells"]:
        record = read_record(Path(cell["record"]))
        assert record.model.submission == cell["submission"]
        assert record.model.revision == cell["revision"]
        assert cell["scores"]["unique"]["low"] < cell["scores"]["unique"]["estimate"] < cell["scores"]["unique"]["high"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "submissions"),
        ("list", "tasks"),
        ("list", "data"),
        ("list", "protocols"),
        ("data", "list"),
        ("doctor",),
        ("status", "--data", "simulated-narrative:tiny"),
    ],
)
def test_json_parses_and_the_table_is_not_empty(
    capsys: pytest.CaptureFixture[str], here: Path, arguments: tuple[str, ...]
) -> None:
    code, out, err = run(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)
    code, table, _ = run(capsys, *arguments)
    assert code == 0
    assert len(table.splitlines()) > 1


def test_doctor_tells_no_secret(
    capsys: pytest.CaptureFixture[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    _, out, _ = run(capsys, "doctor", "--json")
    assert json.loads(out)["network"]["hub token"] == "present"
    assert "very_secret" not in out


def test_completion_reads_file_names_only() -> None:
    from voxelboard.runners.options import complete_dataset, complete_submission

    assert complete_submission("openai") == ["openai-community/gpt2"]
    assert complete_submission("de") == ["demo"]
    assert "simulated-narrative" in complete_dataset("sim")


def test_a_reader_of_stdout_that_leaves_is_no_error(here: Path) -> None:
    script = "from voxelboard.runners.cli import run_cli; import sys; sys.exit(run_cli(['data', 'card', 'alice2016']))"
    command = f'"{sys.executable}" -c "{script}" | head -n 1'
    done = subprocess.run(["sh", "-c", command], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "{\n"
    assert "Traceback" not in done.stderr


def test_a_baseline_alone_is_run_alone_and_with_a_model_once(
    here: Path, science: FakeScience, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = ["--data", "simulated-narrative:tiny", "--no-render", "--quiet"]
    assert run_cli(["run", "-m", "voxelboard/constant", *quiet]) == 0
    assert [name for name, _ in science.asked] == ["voxelboard/constant"]
    assert run_cli(["run", "-m", "planted-q0.9", "-m", "voxelboard/static", *quiet]) == 0
    asked = [name for name, _ in science.asked[1:]]
    assert asked.count("voxelboard/static") == 1
    assert "voxelboard/constant" not in asked  # stored
    assert "voxelboard/oracle" in asked


def test_render_leaves_private_records_out_unless_told(
    here: Path, science: FakeScience, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["run", *TWO, "--quiet"]) == 0
    for path in Path("results/v1/voxelboard__planted-q0.9").rglob("*.json"):
        record = read_record(path)
        model = record.model.model_copy(update={"visibility": "private"})
        write_record(path, record.model_copy(update={"model": model}))
    capsys.readouterr()
    assert run_cli(["render"]) == 0
    assert "3 private or embargoed records left out; --private shows them" in capsys.readouterr().err
    assert not list(Path("board").rglob("*planted-q0.9*.html"))
    assert run_cli(["render", "--private"]) == 0
    (page,) = Path("board").rglob("*planted-q0.9*.html")
    assert "do not publish" in page.read_text()
