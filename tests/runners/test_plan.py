# SPDX-License-Identifier: Apache-2.0
"""Plans: what is stored is kept, and whatever would make a stored score another score is a miss."""

from dataclasses import replace
from pathlib import Path

import pytest
from fake_science import scored_cell

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.protocol import LANCZOS, V1, Protocol, hash_json
from voxelboard.benchmark.readers.base import DatasetFacts
from voxelboard.benchmark.record_stamps import AttributionStamp
from voxelboard.benchmark.records import CellError, Record, record_path, statistics_path, write_record
from voxelboard.benchmark.submission import Submission, baseline_submissions, load_submission
from voxelboard.benchmark.tasks import load_task
from voxelboard.runners.plan import Plan, make_plan
from voxelboard.runners.selection import select_submissions


def rows_of(facts: DatasetFacts) -> list[Submission]:
    """The harness' own rows of a narrative data set."""
    return load_task("narrative").mandatory_rows(facts)


def plan_of(results: Path, facts: DatasetFacts, *names: str, **options: object) -> Plan:
    submissions = [load_submission(name) for name in names or ("planted-q0.9", "planted-q0.3")]
    protocol = options.pop("protocol", V1)
    version = options.pop("task_version", 1)
    return make_plan(submissions, "narrative", version, facts, protocol, results, **options)  # type: ignore[arg-type]


def store(plan: Plan, n_cells: int, **changes: object) -> list[Record]:
    records = []
    for cell in plan.cells[:n_cells]:
        job = next(job for job in plan.jobs if job.submission == cell.submission)
        record, arrays = scored_cell(job, cell.subject)
        records.append(write_record(cell.path, record.model_copy(update=changes), arrays))
    return records


def test_an_empty_folder_has_everything_to_run(tmp_path: Path, facts: DatasetFacts) -> None:
    plan = plan_of(tmp_path, facts)
    assert plan.summary() == "0/6 cells stored, 6 to run"
    assert [(job.submission.label, job.subjects) for job in plan.jobs] == [
        ("voxelboard/planted-q0.9", ("s1", "s2", "s3")),
        ("voxelboard/planted-q0.3", ("s1", "s2", "s3")),
    ]
    assert not any(tmp_path.iterdir()), "planning writes nothing"


def test_a_plan_resumes_where_records_are(tmp_path: Path, facts: DatasetFacts) -> None:
    store(plan_of(tmp_path, facts), 4)
    plan = plan_of(tmp_path, facts)
    assert plan.summary() == "4/6 cells stored, 2 to run"
    assert [(job.submission.label, job.subjects) for job in plan.jobs] == [("voxelboard/planted-q0.3", ("s2", "s3"))]
    fresh = plan_of(tmp_path, facts, fresh=True)
    assert fresh.summary() == "0/6 cells stored, 6 to run"


def test_the_plan_writes_where_records_say_they_belong(tmp_path: Path, facts: DatasetFacts) -> None:
    plan = plan_of(tmp_path, facts)
    for cell, record in zip(plan.cells, store(plan, 6), strict=True):
        assert record_path(tmp_path, record, facts.name) == cell.path


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({"protocol": replace(LANCZOS, name="v1")}, "protocol"),
        ({"task_version": 2}, "task version"),
        ({"dtype": "bfloat16"}, "precision"),
        ({"partial": True}, "all of the data"),
    ],
)
def test_another_measurement_is_a_miss(
    tmp_path: Path, facts: DatasetFacts, options: dict[str, object], note: str
) -> None:
    store(plan_of(tmp_path, facts), 6)
    plan = plan_of(tmp_path, facts, **options)
    assert {cell.state for cell in plan.cells} == {"stale"}
    assert all(note in cell.note for cell in plan.cells)


def test_another_version_of_the_data_is_a_miss(tmp_path: Path, facts: DatasetFacts) -> None:
    store(plan_of(tmp_path, facts), 6)
    plan = plan_of(tmp_path, replace(facts, version="1.0.1"))
    assert {(cell.state, cell.note) for cell in plan.cells} == {
        ("stale", "of another data set version (1.0.0, not 1.0.1)")
    }


def test_another_revision_of_the_model_is_a_miss(tmp_path: Path, facts: DatasetFacts) -> None:
    store(plan_of(tmp_path, facts), 6)
    entry = load_submission("planted-q0.9")
    wider = entry.model_copy(update={"model": entry.model.model_copy(update={"id": "planted-q0.9-d49-l6-s1"})})
    plan = make_plan([wider], "narrative", 1, facts, V1, tmp_path)
    assert {cell.state for cell in plan.cells} == {"missing"}, "it has a folder of its own"


def test_random_twins_of_different_seeds_do_not_share_a_folder(tmp_path: Path, facts: DatasetFacts) -> None:
    entry = load_submission("planted-q0.9")
    twins = [
        entry.model_copy(update={"weights": "random", "seed": seed, "name": f"voxelboard/twin{seed}"})
        for seed in (0, 1)
    ]
    plan = make_plan([entry, *twins], "narrative", 1, facts, V1, tmp_path)
    assert len({cell.path for cell in plan.cells}) == 9


@pytest.mark.parametrize("damage", ["record", "statistics", "no statistics", "invalidated", "started"])
def test_a_damaged_cell_is_run_again(tmp_path: Path, facts: DatasetFacts, damage: str) -> None:
    plan = plan_of(tmp_path, facts)
    store(plan, 6)
    path = plan.cells[0].path
    if damage == "record":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "statistics":
        statistics_path(path).write_bytes(b"another run's")
    elif damage == "no statistics":
        statistics_path(path).unlink()
    elif damage == "invalidated":
        store(plan, 1, invalidated="a wrong transcript")
    else:
        store(plan, 1, status="started")
    again = plan_of(tmp_path, facts)
    assert [cell.state for cell in again.cells] == ["stale"] + ["stored"] * 5
    assert again.cells[0].note
    assert again.summary() == "5/6 cells stored, 1 to run"


def test_a_failed_cell_is_run_again_and_said(tmp_path: Path, facts: DatasetFacts) -> None:
    plan = plan_of(tmp_path, facts)
    error = CellError(kind="oom", message="no memory")
    store(plan, 1, status="error", scores={}, dataset=None, statistics_sha256=None, error=error)
    again = plan_of(tmp_path, facts)
    assert (again.cells[0].state, again.cells[0].note) == ("failed", "oom: no memory")
    assert again.summary() == "0/6 cells stored, 6 to run, 1 of them failed before"


def test_subjects_keep_the_order_of_the_data(tmp_path: Path, facts: DatasetFacts) -> None:
    plan = plan_of(tmp_path, facts, "planted-q0.9", subjects=["s3", "s1", "s3"])
    assert [cell.subject for cell in plan.cells] == ["s1", "s3"]
    with pytest.raises(UserError, match="unknown subject of toy 's9'; allowed: s1, s2, s3"):
        plan_of(tmp_path, facts, subjects=["s9"])


def test_what_cannot_be_scored_is_said_before_anything_runs(tmp_path: Path, facts: DatasetFacts) -> None:
    real = replace(facts, kind="real")
    with pytest.raises(UserError, match="planted truth"):
        plan_of(tmp_path, real)
    gpt2 = load_submission("gpt2")
    with pytest.raises(UserError, match="open track, which is scored on the task narrative"):
        make_plan([gpt2.model_copy(update={"track": "open", "tasks": ("drama",)})], "drama", 1, real, V1, tmp_path)
    with pytest.raises(UserError, match="not entered for task 'drama'"):
        make_plan([gpt2], "drama", 1, real, V1, tmp_path)
    with pytest.raises(UserError, match="two submissions are called"):
        make_plan([gpt2, gpt2], "narrative", 1, real, V1, tmp_path)


def labels(entries: list[Submission]) -> list[str]:
    return [entry.label for entry in entries]


def test_demo_is_the_planted_models_best_first(facts: DatasetFacts) -> None:
    demo = [f"voxelboard/planted-q0.{q}" for q in range(9, 2, -1)]
    assert labels(select_submissions(None, facts, "narrative", rows_of(facts))) == demo
    assert labels(select_submissions(["demo", "planted-q0.9"], facts, "narrative", rows_of(facts))) == demo


def test_all_leaves_out_what_the_data_cannot_have(facts: DatasetFacts) -> None:
    everything = labels(select_submissions(["all"], facts, "narrative", rows_of(facts)))
    on_brains = labels(
        select_submissions(["all"], replace(facts, kind="real"), "narrative", rows_of(replace(facts, kind="real")))
    )
    assert set(everything) - set(on_brains) == {f"voxelboard/planted-q0.{q}" for q in range(3, 10)}
    with pytest.raises(UserError, match="simulated data only"):
        select_submissions(["demo"], replace(facts, kind="real"), "narrative", rows_of(replace(facts, kind="real")))
    with pytest.raises(UserError, match="none of all"):
        select_submissions(["all"], facts, "a task without models", rows_of(facts))


def test_the_mandatory_rows_follow_the_data(facts: DatasetFacts) -> None:
    assert labels(rows_of(facts)) == labels(baseline_submissions(simulated=True))
    bare = replace(facts, kind="real", has_static_vectors=False)
    assert "voxelboard/static" not in labels(rows_of(bare))


def test_the_harness_own_rows_go_by_name(facts: DatasetFacts) -> None:
    """The reproduce line of a ruler's page: ``voxelboard run -m voxelboard/constant``."""
    for row in rows_of(facts):
        assert select_submissions([row.label], facts, "narrative", rows_of(facts)) == [row]
    brain = replace(facts, name="alice2016", kind="real")
    with pytest.raises(UserError, match="voxelboard/oracle does not exist for alice2016"):
        select_submissions(["voxelboard/oracle"], brain, "narrative", rows_of(brain))


def explained(*methods: str, refused: tuple[str, ...] = (), protocol: Protocol = V1) -> AttributionStamp:
    constants = protocol.constants()["attribution"]
    reasons = dict.fromkeys(refused, "no attention weights")
    return AttributionStamp(hash=hash_json(constants), constants=constants, methods=methods, refused=reasons)


@pytest.mark.parametrize(
    ("stamp", "state", "note"),
    [
        (None, "stale", "scored without attributions"),
        (explained("activations", "gradient_norm", refused=("attention",)), "stored", ""),
        (explained("activations", "gradient_norm"), "stale", "scored without attention"),
        (
            explained(
                "activations",
                "gradient_norm",
                "attention",
                protocol=replace(V1, attribution=replace(V1.attribution, context_words=5)),
            ),
            "stale",
            "attributions of another protocol",
        ),
    ],
)
def test_a_record_stands_for_a_cell_only_with_the_attributions_that_are_asked_for(
    tmp_path: Path, facts: DatasetFacts, stamp: AttributionStamp | None, state: str, note: str
) -> None:
    causal = load_submission("gpt2")
    rows = rows_of(facts)[:1]

    def planned(features: tuple[str, ...]) -> Plan:
        return make_plan([causal, *rows], "narrative", 1, facts, V1, tmp_path / "r", features=features)

    first = planned(())
    store(first, 6, attribution=stamp)
    assert {cell.state for cell in planned(()).cells} == {"stored"}
    again = planned(("gradient_norm", "attention")).cells
    assert {(cell.state, cell.note) for cell in again if cell.submission == causal} == {(state, note)}
    assert {cell.state for cell in again if cell.submission != causal} == {"stored"}  # the harness' own rows have none


def test_only_causal_models_of_the_narrative_task_are_explained(tmp_path: Path, facts: DatasetFacts) -> None:
    with pytest.raises(UserError, match="is a model with planted truth: attributions explain"):
        plan_of(tmp_path, facts, features=("attributions",))
    causal = load_submission("gpt2")
    masked = causal.model_copy(update={"model": causal.model.model_copy(update={"loader": "masked"})})
    with pytest.raises(UserError, match="is read with loader 'masked'"):
        make_plan([masked], "narrative", 1, facts, V1, tmp_path, features=("attributions",))
