# SPDX-License-Identifier: Apache-2.0
"""Records with planted scores, written as a run writes them."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.record_stamps import DatasetStamp, Environment, ModelStamp, ProtocolStamp
from voxelboard.benchmark.records import (
    CellError,
    Checks,
    ErrorClass,
    Estimate,
    Facet,
    LayerProfile,
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
    surface: bool = False
    places: NDArray[np.float64] | None = None
    """(20484,) where a vertex lies, 0 to 1, for maps that look smooth; default by its number."""
    protocol: dict[str, Any] = field(default_factory=dict)
    leak: bool = False
    voxel_blocks: bool = False
    """Store what two models are compared by voxel by voxel; a model is better where its score is higher, in all voxels."""

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
            "metadata": {"stimulus_exposure": {self.task: "none"}},
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

    def failure(
        self,
        name: str,
        subject: str,
        kind: ErrorClass,
        message: str,
        *,
        before_data: bool = False,
        stamp: dict[str, Any] | None = None,
    ) -> Path:
        """Write the record of a cell that failed."""
        record = Record(
            status="error",
            task=self.task,
            task_version=1,
            subject=subject,
            protocol=self._protocol(),
            dataset=None if before_data else self._dataset(subject),
            model=self.model(name, **(stamp or {})),
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
            leak=self.leak,
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
                "facets": _facets(self.task, stats["unique"], unique),
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
        more = _surface(rng, unique, self.n_layers, self.places) if self.surface else {}
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
            **({"voxel_blocks__unique": _blocks(rng, unique, self.n_blocks // 3)} if self.voxel_blocks else {}),
            **more,
        }


def _blocks(rng: np.random.Generator, unique: float, n_blocks: int) -> NDArray[np.float16]:
    """(n_blocks, N_VOXELS): what all models share, and noise of the model's own."""
    shared = np.random.default_rng(11).normal(0, 0.3, (n_blocks, N_VOXELS))
    return (unique + shared + rng.normal(0, 0.1, shared.shape)).astype(np.float16)


N_VERTICES = 20_484
LEVELS = ("object", "speech", "story")


def _surface(
    rng: np.random.Generator, unique: float, n_layers: int, places: NDArray[np.float64] | None
) -> dict[str, NDArray[Any]]:
    """Voxels on most of the surface: smooth scores, layers that rise along it, three levels in stripes."""
    everywhere = np.arange(N_VERTICES) / N_VERTICES if places is None else places
    vertices = np.flatnonzero(everywhere > 0.25)
    place = everywhere[vertices]
    wave = 0.5 + 0.5 * np.sin(14 * place)
    beyond = (unique * (0.4 + wave) + rng.normal(0, 0.02, len(vertices))).astype(np.float32)
    levels = {
        f"voxel_level__{name}": (0.1 * (np.floor(9 * place) % 3 == index) + rng.normal(0, 0.01, len(vertices)))
        for index, name in enumerate(LEVELS)
    }
    return {
        "surface": np.array("fsaverage5"),
        "voxel_vertex": vertices.astype(np.int32),
        "voxel_roi": np.array(ALL_ROIS)[
            np.clip(((place - 0.25) / 0.75 * len(ALL_ROIS)).astype(int), 0, len(ALL_ROIS) - 1)
        ],
        "voxel_ceiling": rng.uniform(0.2, 0.6, len(vertices)).astype(np.float32),
        "voxel_r__raw": beyond + np.float32(0.08),
        "voxel_r__unique": beyond,
        "voxel_r__floor": rng.normal(0.1, 0.03, len(vertices)).astype(np.float32),
        "voxel_layer": np.clip(np.round(place * (n_layers - 1) * wave), 0, n_layers - 1).astype(np.int16),
        **{name: values.astype(np.float32) for name, values in levels.items()},
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


FACETS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "drama": (("level", LEVELS),),
    "captions": (
        ("analysis", ("encoding", "similarity", "retrieval")),
        ("control", ("length matched", "objects only")),
    ),
    "ablation": (("condition", ("intact", "shuffled words", "no function words", "paraphrase")),),
}


def _facets(task: str, stats: BlockStatistics, unique: float) -> tuple[Facet, ...]:
    """Parts that fall off one after the other, in all regions together and in each."""
    found = []
    for axis, values in FACETS.get(task, ()):
        for place, value in enumerate(values):
            share = 1 - place / (len(values) + 1)
            for index, roi in enumerate((None, *ROIS)):
                whole = _estimate(macro_influence(stats, np.arange(len(ALL_ROIS)) < len(ROIS)))
                one = whole if roi is None else _of_roi(stats, index - 1)
                scaled = {n: share * getattr(one, n) for n in ("estimate", "low", "high", "standard_error")}
                found.append(Facet(axis=axis, value=value, roi=roi, scores={"unique": replace(one, **scaled)}))
    return tuple(found)


def _layers(stats: BlockStatistics, n_layers: int) -> dict[str, LayerProfile]:
    profiles = {}
    for index, roi in enumerate(ROIS):
        peak = _of_roi(stats, index)
        heights = [1 - ((layer - 4) / n_layers) ** 2 for layer in range(n_layers)]
        test = tuple(
            replace(peak, **{n: getattr(peak, n) - (1 - h) * 0.1 for n in ("estimate", "low", "high")}) for h in heights
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


TASKS = ("narrative", "drama", "captions", "ablation")
# an odd name per kind of trouble: markup, a script link, bidi and control marks, a formula, 10 kB
HOSTILE = (
    '"><script>window.pwned=1</script><img src=x onerror="window.pwned=2">',
    "javascript:window.pwned=3",
    "evil\u202e\u2066txt.exe\u0007\x00",
    '=HYPERLINK("https://example.org","x")',
    "{{ 7*7 }}{% raw %}${window.pwned=4}</script><!--",
    "x" * 10_000,
)


def plant_showcase(results: Path, places: NDArray[np.float64] | None = None) -> None:
    """All four tasks: families and checkpoints, clones, exposure, failures of several kinds, partial, withdrawn, embargoed.

    Every name is made up; the data are marked as simulated.
    """
    families: tuple[tuple[str, str, float, int, dict[str, Any]], ...] = (
        ("acme/quill-0.3b", "Quill 0.3B", 0.121, 331_000_000, {"family": "Quill", "openness": "full"}),
        ("acme/quill-1b", "Quill 1B", 0.152, 1_040_000_000, {"family": "Quill", "openness": "full"}),
        ("acme/quill-7b", "Quill 7B", 0.188, 6_738_000_000, {"family": "Quill", "openness": "full"}),
        ("north/fjord-base", "Fjord base", 0.131, 124_000_000, {"family": "Fjord", "openness": "weights"}),
        ("north/fjord-large", "Fjord large", 0.169, 774_000_000, {"family": "Fjord", "openness": "weights"}),
        ("lab/lantern-mask", "Lantern masked", 0.148, 109_000_000, {"family": "Lantern", "openness": "full"}),
        ("lab/tiny-tales", "Tiny Tales 260K", 0.074, 260_032, {"family": "Tiny", "openness": "full"}),
        ("south/delta-13b", "Delta 13B", 0.186, 13_015_000_000, {"family": "Delta", "openness": "restricted"}),
    )
    gains = {"narrative": 1.0, "drama": 0.8, "captions": 1.3, "ablation": 0.5}
    for task in TASKS:
        plant = Plant(
            results,
            dataset=f"simulated-{task}",
            task=task,
            n_layers=13,
            surface=task in ("narrative", "drama"),
            places=places,
        )
        gain = gains[task]
        for index, (name, label, score, size, metadata) in enumerate(families):
            exposed = {"acme/quill-7b": "likely", "south/delta-13b": "unknown"}.get(name, "none")
            changes = {
                "display_name": label,
                "n_parameters": size,
                "loader": "masked" if "mask" in name else "causal",
                "metadata": {**metadata, "stimulus_exposure": {task: exposed}, "release_date": f"2026-0{index + 1}-15"},
            }
            if name == "lab/lantern-mask" and task == "captions":
                plant.failure(name, "sub-01", "oom", "needs 96 GiB of GPU memory, the device has 24 GiB", stamp=changes)
            elif name == "south/delta-13b" and task == "drama":
                plant.submission(name, score * gain, subjects=SUBJECTS[:2], changes=changes)
            elif not (name == "lab/tiny-tales" and task == "ablation"):
                plant.submission(name, score * gain * (1 + 0.06 * ((index * 7 + len(task)) % 5 - 2)), changes=changes)
        if task == "narrative":
            _plant_steps(plant)
            plant.submission("west/withdrawn", 0.2, invalidated="trained on the test stories, found 2026-10-02")
            plant.submission("west/later", 0.21, changes={"visibility": "embargo:2099-01-01"})
            plant.failure("west/gated", "sub-01", "gated", "the repository asks for an agreement", before_data=True)
        for ruler, value in (("oracle", 0.29), ("static", 0.10), ("random-word-vectors", 0.05)):
            plant.ruler(ruler, value * gain)
        for ruler in ("context-noise", "constant", "confounds"):
            plant.ruler(ruler, 0.0)


def _plant_steps(plant: Plant) -> None:
    """A family of checkpoints."""
    for step, score in ((1000, 0.02), (4000, 0.055), (16_000, 0.09), (64_000, 0.12), (143_000, 0.127)):
        changes = {
            "display_name": f"Pebble 160M, step {step}",
            "revision": f"{step:x}".ljust(40, "0"),
            "n_parameters": 162_000_000,
            "metadata": {"family": "Pebble", "training_step": step, "openness": "full"},
        }
        plant.submission("lab/pebble-160m", score, changes=changes, seed=step)
