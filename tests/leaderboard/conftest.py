# SPDX-License-Identifier: Apache-2.0
"""Records with planted scores, written as a run writes them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.records import (
    CellError,
    Checks,
    DatasetStamp,
    Environment,
    ErrorClass,
    Estimate,
    LayerProfile,
    ModelStamp,
    ProtocolStamp,
    Record,
    record_path,
    slug,
    write_record,
)
from voxelboard.benchmark.statistics.influence import macro_influence
from voxelboard.benchmark.statistics.intervals import single_subject_interval
from voxelboard.benchmark.statistics.scores import BlockStatistics, coarsen

ROIS = ("AC", "pSTS", "IFG", "AG", "PCC")
# in the tables, too, but without signal: it must not pass the gate
ALL_ROIS = (*ROIS, "NULL")
SUBJECTS = ("sub-01", "sub-02", "sub-03", "sub-04", "sub-05")
N_BLOCKS = 48  # of 5 TRs: two test stories of 24 blocks
N_LAYERS = 7
N_VOXELS = 60


RULER = {"loader": "baseline", "weights": "none", "n_parameters": 0, "source": "baseline"}


@dataclass(frozen=True)
class Plant:
    """Where planted records go and what they have in common."""

    results: Path
    dataset: str = "simulated-ci"
    kind: Literal["real", "simulated"] = "simulated"
    ceiling_kind: Literal["repeats", "inter_subject", "none"] = "repeats"
    task: str = "narrative"
    noise: float = 0.012
    n_layers: int = N_LAYERS
    n_blocks: int = N_BLOCKS
    responses: str = "responses"
    protocol: dict[str, Any] = field(default_factory=dict)

    def model(self, name: str, **changes: Any) -> ModelStamp:
        """A model stamp; ``changes`` replace its fields."""
        stamp: dict[str, Any] = {
            "submission": name,
            "display_name": name.rpartition("/")[2],
            "row": "baseline" if name.startswith("voxelboard/") else "submission",
            "source": "hf",
            "loader": "causal",
            "revision": "0123456789abcdef0123456789abcdef01234567",
            "weights": "pretrained",
            "seed": 0,
            "weights_sha256": "a" * 64,
            "tokenizer_sha256": "b" * 64,
            "dtype": "float32",
            "n_parameters": 124_439_808,
            "n_layers": self.n_layers,
            "n_features": 64,
            "metadata": {"stimulus_exposure": {"narrative": "none"}},
        }
        return ModelStamp(**{**stamp, **changes})

    def submission(
        self,
        name: str,
        unique: float,
        *,
        subjects: tuple[str, ...] = SUBJECTS,
        twin: float | None = 0.004,
        seed: int | None = None,
        changes: dict[str, Any] | None = None,
        **record: Any,
    ) -> list[Path]:
        """Write one record per subject with a headline near ``unique``; returns their paths."""
        seed = sum(name.encode()) if seed is None else seed
        model = self.model(name, **(changes or {}))
        return [self._cell(model, subject, unique, twin, seed, record) for subject in subjects]

    def ruler(self, name: str, unique: float, **more: Any) -> list[Path]:
        """Write a baseline row."""
        return self.submission(f"voxelboard/{name}", unique, twin=None, changes=RULER, **more)

    def failure(self, name: str, subject: str, kind: ErrorClass, message: str, *, before_data: bool = False) -> Path:
        """Write the record of a cell that failed."""
        record = Record(
            status="error",
            task=self.task,
            task_version=1,
            subject=subject,
            protocol=self._protocol(),
            dataset=None if before_data else self._dataset(subject),
            model=self.model(name),
            error=CellError(kind=kind, message=message),
        )
        path = record_path(self.results, record, self.dataset)
        write_record(path, record)
        return path

    def _protocol(self) -> ProtocolStamp:
        constants = {**V1.constants(), **self.protocol}
        return ProtocolStamp(name=constants["name"], hash=slug(constants["name"]) + "0" * 56, constants=constants)

    def _dataset(self, subject: str) -> DatasetStamp:
        return DatasetStamp(
            name=self.dataset,
            version="1.0.0",
            kind=self.kind,
            ceiling_kind=self.ceiling_kind,
            stimuli_sha256="c" * 64,
            responses_sha256=f"{self.responses}-{subject}",
            scored_rois=ALL_ROIS,
            n_train=1500,
            n_test=5 * self.n_blocks,
            n_voxels=N_VOXELS,
            n_repeats=4,
        )

    def _cell(
        self, model: ModelStamp, subject: str, unique: float, twin: float | None, seed: int, extra: dict[str, Any]
    ) -> Path:
        tables = self._tables(model, subject, unique, twin, seed)
        stats = {row: _joined(table) for row, table in tables.items()}
        record = Record(
            **{
                "status": "success",
                "task": self.task,
                "task_version": 1,
                "subject": subject,
                "protocol": self._protocol(),
                "dataset": self._dataset(subject),
                "model": model,
                "scores": _scores(stats, unique, twin),
                "by_roi": {roi: {"unique": _of_roi(stats["unique"], i)} for i, roi in enumerate(ROIS)},
                "layers": {} if model.row == "baseline" else _layers(stats["unique"], self.n_layers),
                "checks": Checks(oasm=0.0, noise_brain=0.004, residual_sd_ratio=1.01, alpha_edge_share=0.01),
                "environment": _environment(model, subject),
                "statistics_sha256": "pending",
                **extra,
            }
        )
        path = record_path(self.results, record, self.dataset)
        write_record(path, record, self._arrays(tables, subject, unique, seed))
        return path

    def _tables(
        self, model: ModelStamp, subject: str, unique: float, twin: float | None, seed: int
    ) -> dict[str, NDArray[np.float64]]:
        number = SUBJECTS.index(subject) if subject in SUBJECTS else len(subject)
        shared = np.random.default_rng([1, number])  # responses: the same for all models
        s = 40 * shared.lognormal(0, 0.25, size=(self.n_blocks, len(ALL_ROIS)))
        s[:, -1] = shared.normal(-1, 20, size=self.n_blocks)
        common = shared.normal(0, 0.05, size=s.shape) + 0.02 * np.sin(number)
        own = np.random.default_rng([seed, number])
        planted = {"raw": unique + 0.11, "unique": unique, "floor": 0.2}
        if twin is not None:
            planted |= {"twin0_raw": 0.2, **{f"twin{k}_unique": twin for k in range(3)}}
        return {row: _table(own, s, common, value, self.noise) for row, value in planted.items()}

    def _arrays(
        self, tables: dict[str, NDArray[np.float64]], subject: str, unique: float, seed: int
    ) -> dict[str, NDArray[Any]]:
        rng = np.random.default_rng([seed, 7])
        ceiling = rng.uniform(0.2, 0.6, N_VOXELS).astype(np.float32)
        raw, beyond = (ceiling * value + rng.normal(0, 0.03, N_VOXELS) for value in (unique + 0.11, unique))
        return {
            "rois": np.array(ALL_ROIS),
            "block_trs": np.array(5),
            "block_segment": _segments(self.n_blocks),
            **{f"stats__{row}": table for row, table in tables.items()},
            "voxel_roi": np.repeat(ALL_ROIS, N_VOXELS // len(ALL_ROIS)),
            "voxel_ceiling": ceiling,
            "voxel_r__raw": raw.astype(np.float32),
            "voxel_r__unique": beyond.astype(np.float32),
            "voxel_r__floor": rng.normal(0.1, 0.03, N_VOXELS).astype(np.float32),
        }


def _table(
    own: np.random.Generator, s: NDArray[np.float64], common: NDArray[np.float64], value: float, noise: float
) -> NDArray[np.float64]:
    """(n_blocks, n_rois, 3) of c, q, s whose total score is ``value`` up to noise of the model's own."""
    q = 0.3 * np.abs(s)
    drawn = own.normal(0, noise * np.sqrt(len(s)), size=s.shape)
    # the part of a block that all models of a subject share has mean 0, so that the planted value stays
    wave = (common - common.mean(axis=0)) * (1 if value else 0)
    c = (value + drawn + wave) * np.sqrt(q * np.abs(s))
    return np.stack([c, q, s], axis=-1)


def _segments(n_blocks: int) -> NDArray[np.int64]:
    """Two test stories of the same length."""
    return np.repeat([0, 1], n_blocks // 2)


def _joined(table: NDArray[np.float64]) -> BlockStatistics:
    c, q, s = np.moveaxis(table, -1, 0)
    return coarsen(BlockStatistics(c, q, s, _segments(len(table)), 5), 15)


def _estimate(z: NDArray[np.float64], unit: str = "H") -> Estimate:
    interval = single_subject_interval(z)
    return Estimate(
        estimate=interval.estimate,
        standard_error=interval.se,
        low=interval.low,
        high=interval.high,
        estimator=interval.estimator,
        n=interval.n,
        unit=unit,
    )


def _of_roi(stats: BlockStatistics, index: int) -> Estimate:
    return _estimate(macro_influence(stats, np.arange(len(ALL_ROIS)) == index))


def _scores(stats: dict[str, BlockStatistics], unique: float, twin: float | None) -> dict[str, Estimate]:
    def macro(row: str) -> Estimate:
        every = np.arange(len(ALL_ROIS)) < len(ROIS)
        return _estimate(macro_influence(stats[row], every))

    def r(value: float) -> Estimate:
        return Estimate(
            estimate=value, standard_error=0.01, low=value - 0.02, high=value + 0.02, estimator="r", n=16, unit="r"
        )

    scores = {"unique": macro("unique"), "normalised": macro("raw"), "floor": macro("floor")}
    scores |= {"raw_r": r(0.4 * (unique + 0.11)), "floor_r": r(0.08), "joint_r": r(0.4 * unique + 0.06)}
    scores |= {"ceiling": r(0.41)}
    return scores if twin is None else {**scores, "twin_unique": macro("twin0_unique")}


def _layers(stats: BlockStatistics, n_layers: int) -> dict[str, LayerProfile]:
    profiles = {}
    for index, roi in enumerate(ROIS):
        peak = _of_roi(stats, index)
        heights = [1 - ((layer - 4) / n_layers) ** 2 for layer in range(n_layers)]
        test = tuple(
            peak.model_copy(update={n: getattr(peak, n) - (1 - h) * 0.1 for n in ("estimate", "low", "high")})
            for h in heights
        )
        profiles[roi] = LayerProfile(chosen=(4,), inner=tuple(0.12 * h for h in heights), test=test)
    return profiles


def _environment(model: ModelStamp, subject: str) -> Environment:
    return Environment(
        versions={"voxelboard": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6"},
        git_commit="f" * 40,
        git_dirty=False,
        device="cpu",
        n_threads=1,
        seconds={"features": 12.5, "encoding": 33.0, "statistics": 1.25},
        peak_memory_bytes=900 * 2**20,
        started_at="2026-01-02T03:04:05Z",
        command=f"voxelboard run -m {model.submission} -t narrative --subjects {subject}",
    )


def plant_demo(plant: Plant) -> None:
    """Six submissions of which two are clones, a ladder of rulers, one failure and one that is not finished."""
    for name, score in (("oracle", 0.31), ("static", 0.102), ("random-word-vectors", 0.057)):
        plant.ruler(name, score)
    for name in ("context-noise", "constant", "confounds"):
        plant.ruler(name, 0.0)
    plant.submission("acme/large", 0.231, changes={"n_parameters": 6_738_415_616, "display_name": "Acme Large 7B"})
    plant.submission("acme/medium", 0.19, seed=3, changes={"n_parameters": 1_557_611_200})
    plant.submission("acme/medium-clone", 0.19, seed=4, changes={"n_parameters": 1_557_611_200})
    plant.submission("lab/masked", 0.162, changes={"loader": "masked", "n_parameters": 109_482_240})
    plant.submission("lab/tiny", 0.10, changes={"n_parameters": 260_032})
    plant.submission("lab/untrained", 0.004, twin=None, changes={"weights": "random", "seed": 1})
    plant.failure("lab/huge", "sub-01", "oom", "needs 96 GiB of GPU memory, the device has 24 GiB")
    plant.submission("lab/halfway", 0.15, subjects=SUBJECTS[:2])


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """An empty results folder to plant records in."""
    return Plant(tmp_path / "results")


@pytest.fixture(scope="session")
def demo_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo board's records; read only."""
    plant = Plant(tmp_path_factory.mktemp("demo") / "results")
    plant_demo(plant)
    return plant.results
