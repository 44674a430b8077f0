# SPDX-License-Identifier: Apache-2.0
"""All invariants in order, and the run of them."""

from collections.abc import Callable, Iterator, Sequence

from voxelboard.benchmark.errors import UserError, unknown_name
from voxelboard.benchmark.selftest import (
    ablations,
    ceilings,
    confounds,
    geometries,
    invariances,
    leakage,
    nulls,
    partitions,
    ranking,
    selection,
)
from voxelboard.benchmark.selftest.findings import Finding, Invariant, examine
from voxelboard.benchmark.selftest.worlds import Workbench

_SPEC = "statistics.md 1"

INVARIANTS = (
    Invariant(
        "A1", "Voxel test on autocorrelated nulls", _SPEC, "FPR .04-.065; single TRs exceed .11", nulls.voxel_tests
    ),
    Invariant("A2", "Drifting series", _SPEC, "refused; FPR at most .065 after the filter", nulls.drifting_series),
    Invariant("A3", "Model against 0, shared stimulus", _SPEC, "FPR at most .07", nulls.model_test),
    Invariant(
        "A4",
        "Null submissions through the pipeline",
        _SPEC,
        "mean within .005, FPR at most .075",
        nulls.null_submissions,
    ),
    Invariant(
        "A5", "False discoveries", _SPEC, "FDR at most .08 at q .05, power with 99 draws", nulls.false_discoveries
    ),
    Invariant(
        "A6", "Unrelated geometries", _SPEC, "FPR at most .08; entry by entry exceeds it", geometries.null_geometries
    ),
    Invariant("A7", "Distances under noise", _SPEC, "r with the confound within .15", geometries.biased_distances),
    Invariant(
        "A8", "Retrieval of nothing", _SPEC, "normalised rank .50 +- .02, ties in the middle", geometries.null_retrieval
    ),
    Invariant("B1", "A perfect model scores 1", _SPEC, "within .02 (.005 at 10 repeats)", ceilings.perfect_model),
    Invariant("B2", "A model of known quality scores it", _SPEC, "bias at most .01, 2 repeats", ceilings.known_quality),
    Invariant("B3", "Signal power", _SPEC, "bias at most 3 %, unclipped", ceilings.signal_power),
    Invariant("B4", "Noise ceiling of NSD betas", _SPEC, "bias at most .01", ceilings.image_ceiling),
    Invariant(
        "B5", "Transients shared by repeats", _SPEC, "at most 5 % of null voxels pass", ceilings.onset_transients
    ),
    Invariant("B6", "A ROI without signal", _SPEC, "power within .005, never scored", ceilings.silent_roi),
    Invariant("B7", "Ceilings from other listeners", _SPEC, "another quantity, never mixed", ceilings.other_listeners),
    Invariant("C1", "Planted order, raw score", _SPEC, "tau at least .95", ranking.raw_order),
    Invariant("C2", "Raw score against fresh noise-free stories", _SPEC, "bias at most .015", ranking.raw_bias),
    Invariant(
        "C3", "Rows without understanding", _SPEC, "in order; raw H misleads, H_u does not", ranking.nuisance_rows
    ),
    Invariant(
        "C4", "Planted order, headline", _SPEC, "tau at least .95, bias .01, untrained .015", ranking.headline_order
    ),
    Invariant("D1", "Layer choice", _SPEC, "bias at most .012", selection.layer_choice),
    Invariant("D2", "Many layers against few", _SPEC, "P within .38 to .62", selection.layer_counts),
    Invariant("D3", "No regret", _SPEC, "at most .025 below the best layer", selection.no_regret),
    Invariant("D4", "Alpha by squared error", _SPEC, "no worse than by correlation", selection.alpha_rule),
    Invariant("D5", "Many tries", _SPEC, "at most 5 % of teams move up by chance", selection.many_tries),
    Invariant(
        "E1", "A feature that knows the time", _SPEC, "H at most .005, leaky splits stop", leakage.time_only_canary
    ),
    Invariant("E2", "A brain of noise", _SPEC, "mean r within .02", leakage.noise_brain),
    Invariant("E3", "Shuffled TRs against stories left out", _SPEC, "the gap, reported", leakage.shuffled_gap),
    Invariant("E4", "Whole stories left out, whole segments inside", _SPEC, "none is split", leakage.whole_segments),
    Invariant("E5", "Poisoned test data", _SPEC, "nothing learned or chosen changes, by bytes", leakage.poisoned_test),
    Invariant("E6", "Story boundaries", _SPEC, "no design row of another story changes", leakage.story_boundaries),
    Invariant("E7", "Causality", _SPEC, "first changed row is the next one", leakage.causality),
    Invariant("E8", "Permutations", _SPEC, "bijections, p never 0", leakage.permutations),
    Invariant("F1", "Unique variance on a brain of confounds", _SPEC, "-.03 to .005, unclipped", confounds.null_unique),
    Invariant("F2", "Explained fraction beyond confounds", _SPEC, "within .015 of the truth", partitions.tracked_truth),
    Invariant(
        "F3", "Four feature spaces", _SPEC, "r at least .97, slope .75 (.9 at 25 stories)", partitions.four_spaces
    ),
    Invariant("F4", "Headline of null models", _SPEC, "within .01, FPR at most .05", confounds.null_headline),
    Invariant("F5", "Confounds appended to a model", _SPEC, "gain at most .005", confounds.appended_confounds),
    Invariant("F6", "Residuals on test data", _SPEC, "SD ratio .9 to 1.15", confounds.extrapolation),
    Invariant("F7", "Content-free pooling", _SPEC, "H within .01; sums exceed .04", confounds.content_free),
    Invariant("G1", "A subspace taken away", _SPEC, "delta within .02 of its share", ablations.removed_subspace),
    Invariant(
        "G2", "Columns left out", _SPEC, "refilled within .008; left out they mislead", ablations.dropped_columns
    ),
    Invariant(
        "G3", "Everything degraded", _SPEC, "misleads; the subspace alone within .008", ablations.global_degradation
    ),
    Invariant("G4", "Control ablation", _SPEC, "within .01", ablations.irrelevant_subspace),
    Invariant("H1", "False claims among equal models", _SPEC, "at most .05 in every cell", ranking.tied_models),
    Invariant("H2", "Coverage of paired intervals", _SPEC, "at least .94", ranking.pair_coverage),
    Invariant("H3", "Clones", _SPEC, "never ranked apart, nothing against its truth", ranking.cloned_model),
    Invariant("I1", "Features rewritten", _SPEC, "scores within 1e-6", invariances.feature_invariances),
    Invariant("I2", "Data reordered", _SPEC, "scores within 1e-6", invariances.data_invariances),
    Invariant("I3", "Width without information", _SPEC, "spread at most .015", invariances.widths),
    Invariant("I4", "Determinism", _SPEC, "the same bytes", invariances.determinism),
    Invariant("I5", "Other submissions", _SPEC, "no order changes", invariances.other_submissions),
    Invariant("I6", "Tokenisation", _SPEC, "states within 1e-6", invariances.tokenisation),
)


def chosen_invariants(only: Sequence[str] | None) -> tuple[Invariant, ...]:
    """The invariants with these ids (``"E5"``) or letters (``"E"``), in the order of the document; None is all.

    Raises
    ------
    UserError
        for an unknown id.
    """
    if only is None:
        return INVARIANTS
    known = {invariant.id for invariant in INVARIANTS}
    wanted = {name.upper() for name in only}
    for name in sorted(wanted):
        if name not in known | {key[0] for key in known}:
            raise unknown_name("invariant", name, known, "a letter stands for all of its invariants")
    return tuple(i for i in INVARIANTS if i.id in wanted or i.id[0] in wanted)


def run_selftest(
    *,
    full: bool = False,
    seed: int = 0,
    only: Sequence[str] | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> Iterator[Finding]:
    """Check the invariants one by one.

    Parameters
    ----------
    full : more simulations and tighter allowances: minutes instead of seconds.
    seed : 0 or more, of everything random.
    only : ids or letters; default all.
    progress : called with what is being simulated.

    Raises
    ------
    UserError
        for an unknown id or a negative seed.
    """
    if seed < 0:
        raise UserError(f"the seed is {seed}; allowed: 0 or more")
    wanted = chosen_invariants(only)
    bench = Workbench(full=full, seed=seed, progress=progress)
    for number, invariant in enumerate(wanted):
        progress(f"{number + 1}/{len(wanted)} {invariant.id} {invariant.title}")
        yield examine(invariant, bench)
