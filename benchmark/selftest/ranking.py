# SPDX-License-Identifier: Apache-2.0
"""Letters C and H: models come back in their planted order, and models that are equal are not told apart."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from voxelboard.benchmark.models.base import WordModel
from voxelboard.benchmark.models.baselines import ContextNoise, RandomWordVectors
from voxelboard.benchmark.models.simulated import PlantedModel
from voxelboard.benchmark.selftest.findings import Figure, Measurement, share_error
from voxelboard.benchmark.selftest.worlds import SimulatedWorld, Tables, Workbench, only_segments, plain_score
from voxelboard.benchmark.statistics.intervals import two_way_interval
from voxelboard.benchmark.statistics.ranking import pair_tests, rank_models
from voxelboard.benchmark.tasks.encode import Encoding

FloatArray = NDArray[np.float64]

QUALITIES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# Sizes that say nothing about the quality; 4 delays of 64 features are still fewer columns than half of the rows.
WIDTHS = (48, 32, 64, 40, 24, 56, 36, 60)
MIDDLE_LAYER = 1  # of 3: all planted spaces are strong there
# The headline story is the first test story; the truth is taken on the others.
SCORED, FRESH = (0,), (1, 2)
# Standard deviation of one world's figure, measured over 10 worlds of other seeds: Kendall's tau (one exchanged pair of
# 28 costs .071), score minus truth (stories differ), H_u of an untrained model.
WORLD_SD = {"tau": 0.05, "raw": 0.014, "unique": 0.006, "untrained": 0.006}
# (subjects, blocks, sd of model x subject, of model x block, of the rest): the cells of statistics.md H
CELLS = {
    "8x20": (8, 20, 0.02, 0.05, 0.1),
    "8x60": (8, 60, 0.02, 0.05, 0.1),
    "3x60": (3, 60, 0.1, 0.05, 0.1),
    "6x30": (6, 30, 0.06, 0.03, 0.1),
    "20x12": (20, 12, 0.02, 0.1, 0.1),
}


@dataclass(frozen=True, eq=False)
class Lineup:
    """Models of known quality on one world: name -> encoding, and the names of the planted language models in order."""

    world: SimulatedWorld
    encodings: dict[str, Encoding]
    planted: tuple[str, ...]

    def tables(self, name: str, row: str) -> Tables:
        """Block statistics of the headline story."""
        return only_segments(self.world.tables(self.encodings[name].predictions[row]), SCORED)

    def score(self, name: str, row: str) -> float:
        """The macro score on the headline story."""
        return self.world.score(self.tables(name, row))

    def truth(self, name: str, row: str) -> float:
        """The same predictor's score on noise-free responses to fresh stories."""
        return plain_score(only_segments(self.world.true_tables(self.encodings[name].predictions[row]), FRESH))


def planted_llm(quality: float, width: int, seed: int, *, trained: bool = True) -> PlantedModel:
    """A simulated language model of three layers."""
    return PlantedModel(
        f"q{quality:g}", quality, n_layers=3, width=width, seed=seed, weights="pretrained" if trained else "random"
    )


def lineup(bench: Workbench, k: int) -> Lineup:
    """Eight language models, a clone of one, an untrained one and noise, all encoded once."""
    return bench.share(f"lineup {k}", lambda: _encode_lineup(bench, k))


def _encode_lineup(bench: Workbench, k: int) -> Lineup:
    world, first = bench.listeners(k), bench.seed + 20 * k
    encodings, planted = {}, []
    widths = np.roll(WIDTHS, k).tolist()
    for i, (quality, width) in enumerate(zip(QUALITIES, widths, strict=True)):
        bench.progress(f"world {k + 1}: model {i + 1} of {len(QUALITIES)}")
        name = f"q{quality:g}"
        encodings[name] = world.encode(world.features(planted_llm(quality, width, first + i), MIDDLE_LAYER))
        planted.append(name)
    others: dict[str, tuple[WordModel, int | None]] = {
        "clone": (planted_llm(0.6, widths[4], first + 11), MIDDLE_LAYER),
        "untrained": (planted_llm(0.9, 48, first + 12, trained=False), MIDDLE_LAYER),
        "noise": (ContextNoise(48, first + 13), None),
    }
    for name, (model, layer) in others.items():
        encodings[name] = world.encode(world.features(model, layer))
    return Lineup(world, encodings, tuple(planted))


def _lineups(bench: Workbench) -> list[Lineup]:
    return [lineup(bench, k) for k in range(bench.pick(1, 8))]


def _orders(bench: Workbench, row: str) -> tuple[list[float], list[float]]:
    """Kendall's tau with the planted order, and score minus truth, of each world and model."""
    taus, differences = [], []
    for found in _lineups(bench):
        scores = [found.score(name, row) for name in found.planted]
        taus.append(float(kendalltau(scores, QUALITIES).statistic))
        differences += [score - found.truth(name, row) for name, score in zip(found.planted, scores, strict=True)]
    return taus, differences


def _order_figures(bench: Workbench, row: str, name: str, bias: float) -> tuple[Figure, Figure]:
    taus, differences = _orders(bench, row)
    scale = 3 / float(np.sqrt(len(taus)))
    return (
        Figure(f"Kendall's tau of {name}", float(np.mean(taus)), low=0.95, error=scale * WORLD_SD["tau"]),
        Figure(f"{name} - truth", float(np.mean(differences)), -bias, bias, scale * WORLD_SD[row]),
    )


def _worlds_text(bench: Workbench) -> str:
    return f"8 models x {bench.pick(1, 8)} worlds, SNR .12"


def raw_order(bench: Workbench) -> Measurement:
    """C1: the raw score orders eight language models as planted."""
    order, _ = _order_figures(bench, "raw", "H", 0.015)
    return Measurement((order,), _worlds_text(bench))


def raw_bias(bench: Workbench) -> Measurement:
    """C2: the raw score is the score on noise-free responses to fresh stories."""
    _, bias = _order_figures(bench, "raw", "H", 0.015)
    return Measurement((bias,), _worlds_text(bench))


def headline_order(bench: Workbench) -> Measurement:
    """C4: the headline orders them as planted and sees nothing in an untrained model, where the raw score does."""
    order, bias = _order_figures(bench, "unique", "H_u", 0.01)
    found = _lineups(bench)
    untrained = [line.score("untrained", "unique") for line in found]
    raw = [line.score("untrained", "raw") for line in found]
    error = 3 * WORLD_SD["untrained"] / float(np.sqrt(len(found)))
    return Measurement(
        (
            order,
            bias,
            Figure("H_u of an untrained model", float(np.mean(untrained)), high=0.015, error=error),
            Figure("its raw H (teeth)", float(np.mean(raw)), low=0.05),
        ),
        _worlds_text(bench),
    )


def _tied_tables(rng: np.random.Generator, cell: tuple[int, int, float, float, float], n_models: int) -> FloatArray:
    """(n_models, n_subjects, n_blocks) influence values of models of equal score, heteroscedastic."""
    n, b, by_subject, by_block, rest = cell
    spread = rng.uniform(0.5, 1.5, (3, n_models, 1, 1))
    table: FloatArray = (
        0.2 * rng.standard_normal((1, n, 1))
        + 0.2 * rng.standard_normal((1, 1, b))
        + spread[0] * by_subject * rng.standard_normal((n_models, n, 1))
        + spread[1] * by_block * rng.standard_normal((n_models, 1, b))
        + spread[2] * rest * rng.standard_normal((n_models, n, b))
    )
    return table


def tied_models(bench: Workbench) -> Measurement:
    """H1: among equal models, any claim that one is better, in each cell of the study."""
    n_tables, figures = bench.pick(200, 600), []
    for number, (name, cell) in enumerate(CELLS.items()):
        rng = bench.rng(8, 1, number)
        claims = [
            pair_tests(_tied_tables(rng, cell, 8), scope="subjects+stimuli").significant.any() for _ in range(n_tables)
        ]
        wrong = float(np.mean(claims))
        figures.append(Figure(f"any false claim, {name}", wrong, high=0.05, error=share_error(0.05, n_tables)))
    return Measurement(tuple(figures), f"{n_tables} tables of 8 equal models a cell")


def cloned_model(bench: Workbench) -> Measurement:
    """H3: two models of one quality are not ranked apart, the best and the worst are."""
    split, wrong, told, pairs = 0, 0, 0, 0
    for found in _lineups(bench):
        names = (*found.planted, "clone")
        quality = dict(zip(names, (*QUALITIES, 0.6), strict=True))
        tables = {name: found.tables(name, "unique") for name in names}
        ranking = rank_models(tables, found.world.data.subjects, policy=found.world.protocol.score)
        order = [model.name for model in ranking.models]
        better = ranking.pairs.significant & (ranking.pairs.difference > 0)
        split += bool(ranking.pairs.significant[order.index("q0.6"), order.index("clone")])
        for a, b in combinations(range(len(order)), 2):
            gap = quality[order[a]] - quality[order[b]]
            wrong += bool(better[a, b] and gap < 0) + bool(better[b, a] and gap > 0)
            told += bool(ranking.pairs.significant[a, b])
            pairs += 1
    n = bench.pick(1, 8)
    return Measurement(
        (
            Figure("clones ranked apart", split, high=0),
            Figure("pairs ranked against their truth", wrong, high=0),
            Figure("share of pairs told apart", told / pairs, low=0.3),
        ),
        f"9 models x {n} worlds",
    )


def nuisance_rows(bench: Workbench) -> Measurement:
    """C3: rows without understanding, in their order: raw H rewards words heard and counted, H_u does not."""
    raw: dict[str, list[float]] = {}
    unique: dict[str, list[float]] = {}
    for k, found in enumerate(_lineups(bench)):
        world = found.world
        encodings = {"noise": found.encodings["noise"], "untrained": found.encodings["untrained"]}
        encodings["weakest"], encodings["best"] = found.encodings["q0.2"], found.encodings["q0.9"]
        words = world.features(RandomWordVectors(48, bench.seed + k))
        encodings["random word vectors"] = world.encode(words)
        for name, encoding in encodings.items():
            for row, kept in (("raw", raw), ("unique", unique)):
                tables = only_segments(world.tables(encoding.predictions[row]), SCORED)
                kept.setdefault(name, []).append(world.score(tables))
        floor = only_segments(world.tables([confound.floor for confound in world.confounds]), SCORED)
        raw.setdefault("confounds", []).append(world.score(floor))
    h = {name: float(np.mean(values)) for name, values in raw.items()}
    h_u = {name: float(np.mean(values)) for name, values in unique.items()}
    error = 3 * WORLD_SD["raw"] / float(np.sqrt(len(raw["noise"])))
    return Measurement(
        (
            Figure("H of noise", h["noise"], -0.01, 0.01, error),
            Figure("H of random word vectors - noise", h["random word vectors"] - h["noise"], low=0.02),
            Figure("H of an untrained model - weakest language model (teeth)", h["untrained"] - h["weakest"], low=0.0),
            Figure("H of confounds - weakest language model (teeth)", h["confounds"] - h["weakest"], low=0.0),
            Figure("H of the best language model - untrained", h["best"] - h["untrained"], low=0.05),
            Figure("H_u of the weakest language model - untrained", h_u["weakest"] - h_u["untrained"], low=0.01),
        ),
        _worlds_text(bench),
    )


def pair_coverage(bench: Workbench) -> Measurement:
    """H2: intervals of paired differences cover the difference on noise-free responses to fresh stories."""
    covered, width = [], []
    for found in _lineups(bench):
        names = (*found.planted, "clone")
        z = {name: found.world.influence(found.tables(name, "unique")) for name in names}
        truth = {name: found.truth(name, "unique") for name in names}
        df = pair_tests(np.stack(list(z.values()))).df
        for a, b in combinations(names, 2):
            interval = two_way_interval(z[a] - z[b], df=df)
            covered.append(interval.low <= truth[a] - truth[b] <= interval.high)
            width.append(interval.high - interval.low)
    n_worlds = bench.pick(1, 8)
    # pairs of one world share models and a story: about eight independent contrasts each
    return Measurement(
        (
            Figure(
                "pairs covered",
                float(np.mean(covered)),
                low=0.94,
                error=3 * float(np.sqrt(0.06 * 0.94 / (8 * n_worlds))),
            ),
            Figure("mean width of an interval", float(np.mean(width)), high=0.15),
        ),
        f"{len(covered)} pairs in {n_worlds} worlds",
    )
