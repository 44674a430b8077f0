# SPDX-License-Identifier: Apache-2.0
"""Planted records give the planted order, ties, intervals and states."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted_records import Plant
from scipy import stats as distributions

from voxelboard.benchmark.errors import DataError, UserError
from voxelboard.benchmark.records import Estimate, Facet, load_records, read_record, read_statistics, write_record
from voxelboard.benchmark.statistics.intervals import Interval
from voxelboard.leaderboard.aggregate import aggregate, aggregate_records, candidates_by_column, natural_key
from voxelboard.leaderboard.board import Ceiling, Missing, Row, Table
from voxelboard.leaderboard.pages.model import _facts
from voxelboard.leaderboard.pooling import pool_estimates, pool_facets
from voxelboard.leaderboard.rows import TWIN, _metrics


def only_table(results: Path) -> Table:
    (board,) = aggregate(results)
    (table,) = board.tables
    return table


def by_name(table: Table) -> dict[str, Row]:
    return {row.entry.submission: row for row in table.rows}


def headline(row: Row) -> Interval:
    assert isinstance(row.headline, Interval)
    return row.headline


def test_planted_order_and_scores_are_recovered(demo_results: Path) -> None:
    table = only_table(demo_results)
    names = [row.entry.submission for row in table.ranked]
    assert names[0] == "acme/large"
    assert set(names[1:3]) == {"acme/medium", "acme/medium-clone"}
    assert names[3:] == ["lab/masked", "lab/tiny", "lab/untrained"]
    rows = by_name(table)
    for name, planted in (
        ("acme/large", 0.231),
        ("lab/tiny", 0.1),
        ("voxelboard/oracle", 0.31),
        ("lab/untrained", 0.004),
    ):
        assert headline(rows[name]).estimate == pytest.approx(planted, abs=0.01)


def test_clones_share_a_rank_and_separated_models_do_not(demo_results: Path) -> None:
    rows = by_name(only_table(demo_results))
    clones = [rows[name].rank for name in ("acme/medium", "acme/medium-clone")]
    assert clones[0] is not None
    assert clones[1] is not None
    assert [rank.spread for rank in clones if rank] == ["2–3", "2–3"]
    assert clones[0].tied_with == (rows["acme/medium-clone"].entry,)
    assert [rows[name].rank.spread for name in ("acme/large", "lab/tiny", "lab/untrained")] == ["1", "5", "6"]  # type: ignore[union-attr]


def test_headline_interval_is_the_two_way_formula_of_the_stored_sums(plant: Any) -> None:
    """statistics.md 2.2 and 2.4, written out with loops from the npz alone."""
    paths = plant.submission("acme/one", 0.2)
    table = only_table(plant.results)
    z = []
    for path, record in load_records(plant.results):
        assert path in paths
        arrays = read_statistics(path, record)
        joined = arrays["stats__unique"].reshape(16, 3, 6, 3).sum(axis=1)  # 15-TR blocks, (blocks, ROIs, c q s)
        values = np.zeros(16)
        for roi in range(5):
            c, q, s = joined[:, roi].T
            big_c, big_q, big_s = c.sum(), q.sum(), s.sum()
            score = big_c / math.sqrt(big_q * big_s)
            values += score + 16 * (c / math.sqrt(big_q * big_s) - score / 2 * (q / big_q + s / big_s))
        z.append(values / 5)
    grid = np.array(z)
    n, b = grid.shape
    a = grid.mean(axis=1).var(ddof=1) / n
    bb = grid.mean(axis=0).var(ddof=1) / b
    rest = grid - grid.mean(axis=1, keepdims=True) - grid.mean(axis=0) + grid.mean()
    ab = (rest**2).sum() / ((n - 1) * (b - 1)) / (n * b)
    v = max(a + bb - ab, a, bb)
    df = v**2 / (a**2 / (n - 1) + bb**2 / (b - 1) + ab**2 / ((n - 1) * (b - 1)))
    half = distributions.t.ppf(0.975, df) * math.sqrt(v)
    score_shown = headline(table.ranked[0])
    assert score_shown.estimate == pytest.approx(grid.mean())
    assert (score_shown.low, score_shown.high) == pytest.approx((grid.mean() - half, grid.mean() + half))


def test_another_submission_moves_no_score_and_no_badge(plant: Any) -> None:
    for name, score in (("a/x", 0.1), ("a/y", 0.2)):
        plant.submission(name, score)
    plant.ruler("static", 0.08)
    before = by_name(only_table(plant.results))
    plant.submission("a/z", 0.15)
    after = by_name(only_table(plant.results))
    for name, row in before.items():
        assert (after[name].headline, after[name].badges) == (row.headline, row.badges)


def test_the_order_of_records_does_not_matter(demo_results: Path) -> None:
    records = load_records(demo_results)
    (forward,), (backward,) = aggregate_records(records), aggregate_records(records[::-1])
    summary = [[(r.entry, r.rank, r.headline, r.badges) for r in t.rows] for t in (*forward.tables, *backward.tables)]
    assert summary[0] == summary[1]


def test_badges_are_paired_with_the_own_twin_and_the_baselines(demo_results: Path) -> None:
    rows = by_name(only_table(demo_results))
    badges = {badge.baseline: badge for badge in rows["lab/tiny"].badges}
    assert set(badges) == {TWIN} | {
        f"voxelboard/{n}" for n in ["static", "random-word-vectors", "context-noise", "constant", "confounds"]
    }
    assert badges[TWIN].beaten
    assert badges[TWIN].difference.estimate == pytest.approx(0.1 - 0.004, abs=0.01)
    # planted at .100 and .102: nobody can tell them apart
    assert not badges["voxelboard/static"].beaten
    assert badges["voxelboard/static"].difference.low < 0 < badges["voxelboard/static"].difference.high
    assert TWIN not in {badge.baseline for badge in rows["lab/untrained"].badges}
    assert rows["lab/untrained"].metrics["twin"] == Missing("has no trained weights, so no untrained twin")


def test_a_constant_prediction_scores_exactly_zero_and_is_a_ruler_like_any_other(plant: Any) -> None:
    plant.submission("a/x", 0.2)
    for path in plant.ruler("constant", 0.0):
        record = read_record(path)
        arrays = read_statistics(path, record)
        still = {name: table * [0, 0, 1] if name.startswith("stats__") else table for name, table in arrays.items()}
        zero = replace(record.scores["unique"], **dict.fromkeys(("estimate", "standard_error", "low", "high"), 0.0))
        write_record(path, record.model_copy(update={"scores": {**record.scores, "unique": zero}}), still)
    rows = by_name(only_table(plant.results))
    constant = headline(rows["voxelboard/constant"])
    assert (constant.estimate, constant.low, constant.high) == (0, 0, 0)
    badge = next(b for b in rows["a/x"].badges if b.baseline == "voxelboard/constant")
    assert badge.beaten
    assert badge.difference.estimate == headline(rows["a/x"]).estimate


def test_rulers_are_never_ranked(demo_results: Path) -> None:
    table = only_table(demo_results)
    assert {row.model.row for row in table.ranked} == {"submission"}
    assert all(row.rank is None and row.state.name == "ruler" for row in table.rulers)
    assert [(mark.kind, mark.label) for mark in table.marks] == [
        ("ceiling", "oracle"),
        ("static", "static"),
        ("twin", "untrained"),
    ]


def test_states_are_distinct_and_missing_is_never_zero(plant: Any) -> None:
    plant.submission("a/whole", 0.2)
    plant.submission("a/halfway", 0.15, subjects=("sub-01", "sub-02"))
    plant.submission("a/withdrawn", 0.19, invalidated="trained on the stimulus")
    plant.submission("a/limited", 0.3, partial=True)
    plant.failure("a/failed", "sub-01", "oom", "needs 96 GiB")
    plant.failure("a/mixed", "sub-01", "timeout", "took 2 h")
    plant.submission("a/mixed", 0.1, subjects=("sub-02",))
    table = only_table(plant.results)
    rows = by_name(table)
    assert [row.entry.submission for row in table.ranked] == ["a/whole"]
    states = {name: (row.state.name, row.state.detail) for name, row in rows.items()}
    assert states == {
        "a/whole": ("ranked", ""),
        "a/halfway": ("partial", "partial 2/5 subjects, unranked"),
        "a/withdrawn": ("invalidated", "trained on the stimulus"),
        "a/limited": ("partial", "partial, scored with --limit, unranked"),
        "a/failed": ("failed", "oom: needs 96 GiB"),
        "a/mixed": ("partial", "partial 1/5 subjects, unranked"),
    }
    assert rows["a/failed"].headline == Missing("oom: needs 96 GiB")
    assert rows["a/withdrawn"].headline == Missing("trained on the stimulus")
    assert not rows["a/withdrawn"].subjects
    assert rows["a/mixed"].failures[0] == ("sub-01", "timeout: took 2 h")
    assert ("sub-05", "not run") in rows["a/mixed"].failures
    assert all(row.rank is None for row in table.unranked)


def test_a_submission_that_another_column_has_is_not_run(plant: Any) -> None:
    plant.submission("a/both", 0.2)
    other = replace(plant, dataset="simulated-other")
    other.submission("a/both", 0.2)
    other.submission("a/one", 0.1)
    (board,) = aggregate(plant.results)
    states = {t.column.dataset: {r.entry.submission: r.state.name for r in t.rows} for t in board.tables}
    assert states == {
        "simulated-ci": {"a/both": "ranked", "a/one": "not run"},
        "simulated-other": {"a/both": "ranked", "a/one": "ranked"},
    }
    missing = by_name(board.tables[0])["a/one"]
    assert all(isinstance(score, Missing) for score in (missing.headline, *missing.metrics.values()))


def test_ceilings_of_the_literature_are_named_beside_the_one_that_counts(plant: Any) -> None:
    plant.submission("a/x", 0.2)
    for path, record in load_records(plant.results):
        others = {
            name: replace(record.scores["ceiling"], estimate=value, estimator=name)
            for name, value in (("ceiling_leave_one_out", 0.3), ("ceiling_extrapolated", 0.35))
        }
        write_record(path, record.model_copy(update={"scores": {**record.scores, **others}}))
    table = only_table(plant.results)
    (row,) = table.ranked
    assert isinstance(row.ceiling, Ceiling)
    assert [(c.kind, c.mean) for c in row.other_ceilings] == [("leave-one-out", 0.3), ("extrapolated", 0.35)]
    (note,) = [note for name, _, note in _facts(table, row) if name == "Ceiling r"]
    assert note.endswith("over subjects; leave-one-out 0.300; extrapolated 0.350")


def test_kinds_of_ceiling_are_never_in_one_table(plant: Any) -> None:
    plant.submission("a/x", 0.2)
    replace(plant, ceiling_kind="none", results=plant.results / "none").submission("a/y", 0.4)
    (board,) = aggregate(plant.results)
    columns = {table.column.ceiling_kind: [row.entry.submission for row in table.ranked] for table in board.tables}
    assert columns == {"repeats": ["a/x"], "none": ["a/y"]}
    bare = next(table for table in board.tables if table.column.ceiling_kind == "none")
    assert isinstance(bare.ranked[0].ceiling, Missing)


def test_protocols_are_never_in_one_table_and_replications_are_not_ranked(plant: Any) -> None:
    plant.submission("a/x", 0.2)
    replace(plant, protocol={"name": "v1-lanczos", "scored": False}).submission("a/x", 0.25)
    (board,) = aggregate(plant.results)
    tables = {table.column.protocol: table for table in board.tables}
    assert [row.state.name for row in tables["v1"].rows] == ["ranked"]
    assert [row.state.name for row in tables["v1-lanczos"].rows] == ["unranked"]


def test_a_demonstration_of_leakage_is_shown_and_not_ranked(plant: Any) -> None:
    plant.submission("a/x", 0.2)
    replace(plant, dataset="sentences:shuffled-leak", leak=True).submission("a/x", 0.6)
    (board,) = aggregate(plant.results)
    tables = {table.column.dataset: table for table in board.tables}
    assert [row.state.name for row in tables.pop("sentences:shuffled-leak").rows] == ["unranked"]
    (honest,) = tables.values()
    assert [row.state.name for row in honest.rows] == ["ranked"]


def test_real_and_simulated_data_are_on_boards_of_their_own(plant: Any) -> None:
    plant.submission("a/x", 0.2)
    replace(plant, kind="real", dataset="lebel2023-pcs").submission("a/x", 0.1)
    boards = aggregate(plant.results)
    assert [(board.kind, [t.column.dataset for t in board.tables]) for board in boards] == [
        ("real", ["lebel2023-pcs"]),
        ("simulated", ["simulated-ci"]),
    ]


def test_other_responses_under_the_same_name_are_refused(plant: Any) -> None:
    plant.submission("a/x", 0.2)
    replace(plant, responses="others").submission("a/y", 0.2)
    with pytest.raises(DataError, match="scored on different data"):
        aggregate(plant.results)


def test_the_same_cell_twice_is_refused(plant: Any) -> None:
    plant.submission("a/x", 0.2)
    replace(plant, results=plant.results / "copy").submission("a/x", 0.2)
    with pytest.raises(DataError, match="are the same cell"):
        aggregate(plant.results)


def test_a_whole_record_replaces_a_trial_of_the_same_cell(plant: Any) -> None:
    for folder, score, partial in (("a", 0.1, True), ("b", 0.2, False), ("c", 0.3, True)):
        replace(plant, results=plant.results / folder).submission("a/x", score, partial=partial)
    (row,) = only_table(plant.results).ranked
    assert headline(row).estimate == pytest.approx(0.2, abs=0.01)


def test_damaged_statistics_are_refused(plant: Any) -> None:
    (path, *_) = plant.submission("a/x", 0.2)
    file = path.with_suffix(".npz")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match="is not the file"):
        aggregate(plant.results)


def test_an_edited_headline_is_refused(plant: Any) -> None:
    (path, *_) = plant.submission("a/x", 0.2)
    record = json.loads(path.read_text())
    record["scores"]["unique"]["estimate"] += 0.01
    path.write_text(json.dumps(record))
    with pytest.raises(DataError, match="its statistics give"):
        aggregate(plant.results)


def test_a_record_without_the_score_section_of_its_protocol_is_refused(plant: Any) -> None:
    (path, *_) = plant.submission("a/x", 0.2)
    record = json.loads(path.read_text())
    del record["protocol"]["constants"]["score"]["confidence"]
    path.write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"protocol\.constants\.score"):
        aggregate(plant.results)


def test_no_folder_and_no_records(tmp_path: Path) -> None:
    assert aggregate_records([]) == ()
    with pytest.raises(UserError, match="no folder"):
        aggregate(tmp_path / "nothing")


def test_a_failure_before_the_data_goes_to_the_column_of_its_folder(plant: Any) -> None:
    plant.submission("a/x", 0.2)
    plant.failure("a/gated", "sub-01", "gated", "accept the licence first", before_data=True)
    replace(plant, dataset="unseen").failure("a/gone", "sub-01", "not_found", "no such revision", before_data=True)
    (board,) = aggregate(plant.results)
    (table,) = board.tables
    assert by_name(table)["a/gated"].state.detail == "gated: accept the licence first"
    assert [(cell.submission, cell.dataset) for cell in board.lost] == [("a/gone", "unseen")]


def test_two_subjects_are_fixed_and_say_how_many_agree(plant: Any) -> None:
    for name in ("a/x", "a/y"):
        plant.submission(name, 0.2, subjects=("sub-01", "sub-02"))
    table = only_table(plant.results)
    assert table.scope == "stimuli only (N=2 fixed subjects)"
    assert table.scope_note == "2 of 2 agree in sign for the first row"
    assert headline(table.ranked[0]).df == 15  # 16 blocks


def test_the_smallest_resolvable_difference_separates_what_the_ranks_separate(demo_results: Path) -> None:
    table = only_table(demo_results)
    assert table.smallest_resolvable is not None
    assert table.smallest_resolvable_ranked is not None
    # 15 pairs: Holm's first step needs more than a single test
    assert 0 < table.smallest_resolvable < table.smallest_resolvable_ranked < 0.19 - 0.1
    assert table.scope == "subjects + stimuli"
    assert (table.n_blocks, table.block_trs, table.n_segments) == (16, 15, 2)


def test_the_twin_line_is_the_mean_of_the_twins(demo_results: Path) -> None:
    table = only_table(demo_results)
    twins = [row.metrics["twin"] for row in table.ranked]
    known = [twin.estimate for twin in twins if isinstance(twin, Interval)]
    assert len(known) == 5
    assert table.twins is not None
    assert table.twins.estimate == pytest.approx(np.mean(known))


def test_two_revisions_are_two_rows_and_twin_seeds_too(plant: Any) -> None:
    plant.submission("a/x", 0.2)
    plant.submission("a/x", 0.21, changes={"revision": "f" * 40})
    for seed in (0, 1):
        plant.submission("a/x", 0.0, twin=None, changes={"weights": "random", "seed": seed})
    assert len(only_table(plant.results).ranked) == 4


def test_the_open_track_has_its_own_table_with_the_same_rulers(plant: Any) -> None:
    plant.submission("a/x", 0.2)
    plant.ruler("static", 0.1)
    plant.submission("a/tuned", 0.3, changes={"track": "open"})
    (board,) = aggregate(plant.results)
    tables = {table.column.track: table for table in board.tables}
    assert {t: [r.entry.submission for r in tables[t].ranked] for t in tables} == {
        "fixed": ["a/x"],
        "open": ["a/tuned"],
    }
    assert [row.entry.submission for row in tables["open"].rulers] == ["voxelboard/static"]


def test_regions_layers_and_voxels_are_pooled_over_subjects(demo_results: Path) -> None:
    row = by_name(only_table(demo_results))["acme/large"]
    assert [roi.roi for roi in row.rois] == ["AC", "pSTS", "IFG", "AG", "PCC"]
    assert [profile.roi for profile in row.profiles] == [roi.roi for roi in row.rois]
    means = [roi.unique.estimate for roi in row.rois if isinstance(roi.unique, Interval)]
    assert np.mean(means) == pytest.approx(headline(row).estimate)
    assert row.overview is not None
    assert row.overview.chosen == (4,)
    assert row.histogram is not None
    assert {name: sum(n) for name, n in row.histogram.counts.items()} == dict.fromkeys(("raw", "floor", "unique"), 300)
    top = max(range(7), key=lambda layer: row.overview.test.estimate[layer] or 0)  # type: ignore[union-attr]
    assert top == 4


def test_the_sums_of_a_subject_give_its_score(demo_results: Path) -> None:
    row = by_name(only_table(demo_results))["acme/large"]
    for subject in row.subjects:
        assert isinstance(subject.headline, Interval)
        scores = [sums.c / math.sqrt(sums.q * sums.s) for sums in subject.sums[:5]]
        assert subject.sums[5].roi == "NULL"
        assert subject.sums[5].score is None
        assert np.mean(scores) == pytest.approx(subject.headline.estimate)


def estimate(value: float, se: float | None, n: int = 16) -> Estimate:
    low, high = (None, None) if se is None else (value - se, value + se)
    return Estimate(estimate=value, standard_error=se, low=low, high=high, estimator="r", n=n, unit="r")


def test_correlations_of_fixed_subjects_have_the_bound_for_shared_errors() -> None:
    pooled = pool_estimates([estimate(0.1, 0.02), estimate(0.3, 0.04)])
    assert isinstance(pooled, Interval)
    assert (pooled.estimate, pooled.se, pooled.df) == pytest.approx((0.2, 0.03, 15))
    assert pooled.high - 0.2 == pytest.approx(distributions.t.ppf(0.975, 15) * 0.03)


def test_correlations_of_many_subjects_add_the_variance_between_them() -> None:
    values = [0.1, 0.12, 0.2, 0.26, 0.3, 0.14]
    pooled = pool_estimates([estimate(value, 0.03) for value in values])
    assert isinstance(pooled, Interval)
    assert pooled.se == pytest.approx(math.sqrt(0.03**2 + np.var(values, ddof=1) / 6))


def test_a_number_without_an_interval_is_missing() -> None:
    assert pool_estimates([estimate(0.1, None)]) == Missing("the record gives no interval")
    assert pool_estimates([None]) == Missing("not in the record")
    assert pool_estimates([estimate(0.1, 0.01), estimate(0.1, None)]) == Missing("the record gives no interval")
    absent = Estimate(estimate=None, estimator="H", n=0, unit="H", reason="no ROI above the gate")
    assert pool_estimates([absent]) == Missing("no ROI above the gate")


def test_a_part_that_one_subject_lacks_is_pooled_over_the_others_and_says_so() -> None:
    absent = Estimate(estimate=None, estimator="H_u", n=0, unit="H", reason="the signal power is not above its gate")
    subjects = [
        (Facet(axis="method", value="attention", roi="STG", scores={"unique": number, "order": absent}),)
        for number in (estimate(0.1, 0.02), absent, estimate(0.3, 0.04))
    ]
    (pooled,) = pool_facets(subjects)
    unique = pooled.scores["unique"]
    assert isinstance(unique, Interval)
    assert unique.estimate == pytest.approx(0.2)
    assert unique.estimator.endswith("; 2 of 3 subjects have a number")
    assert pooled.scores["order"] == Missing("the signal power is not above its gate")


def test_subjects_sort_naturally() -> None:
    assert sorted(["sub-10", "sub-2", "UTS01"], key=natural_key) == ["UTS01", "sub-2", "sub-10"]


def test_a_trial_on_fewer_blocks_is_shown_with_its_own_interval(plant: Any) -> None:
    plant.submission("a/x", 0.2)
    before = only_table(plant.results).ranked
    replace(plant, n_blocks=18).submission("a/trial", 0.2, partial=True)
    table = only_table(plant.results)
    trial = by_name(table)["a/trial"]
    assert trial.state.name == "partial"
    assert headline(trial).n == 5 * 6  # two stories of 9 blocks of 5 TRs
    assert table.ranked[0].headline == before[0].headline


def test_the_board_never_imports_torch() -> None:
    code = (
        "import sys; from voxelboard.leaderboard import render, compare; "
        "sys.exit(bool({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_row_that_is_part_of_the_confounds_has_no_explained_fraction(plant: Plant) -> None:
    """Not 0 with an empty interval; where anything was added, the number stays."""
    plant.ruler("spectral", 0.01)
    (candidates,) = candidates_by_column(load_records(plant.results)).values()
    (candidate,) = candidates
    for added in (0.0, 1e-6):
        values = {s: np.full_like(cell.influence["unique"], added) for s, cell in candidate.cells.items()}
        cells = {s: replace(c, influence={**c.influence, "fve": values[s]}) for s, c in candidate.cells.items()}
        score = _metrics(replace(candidate, cells=cells), list(cells))["fve"]
        if added:
            assert isinstance(score, Interval)
            assert score.estimate == pytest.approx(added)
        else:
            assert isinstance(score, Missing)
            assert "part of the confounds" in score.reason
