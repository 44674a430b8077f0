# SPDX-License-Identifier: Apache-2.0
"""A 7B-shaped model and whole brains, from words to scores: what ``voxelboard run`` does, stage by stage, beside the device's peaks.

A Llama of 32 blocks x 4,096 with random weights (7 billion parameters, bfloat16) reads simulated stories of LeBel's length, and all 33
layers are fitted to three listeners of 95,000 voxels each, raw and beyond the confounds, through :func:`measure`. The floor of a stage is
its counted arithmetic at the peak rates of this device: two operations for each parameter and token, the products of left-out
folds in float32, factorisations in float64; score, selection and transfers are in no floor.

It needs a CUDA device of 80 GB and 64 GB of host memory. ``VOXELBOARD_BENCH_STORIES=84`` takes all stories. Everything can be made smaller:

    VOXELBOARD_BENCH_DEVICE=cpu VOXELBOARD_BENCH_STORIES=6 VOXELBOARD_BENCH_TRS=60 VOXELBOARD_BENCH_VOXELS=600 \\
    VOXELBOARD_BENCH_BLOCKS=3 VOXELBOARD_BENCH_WIDTH=64 pytest tests/bench/test_gpu_end_to_end.py -o addopts=

Simulating responses is told apart (``simulating_s``, a part of the stage ``responses``). Fresh weights are drawn on the CPU, twice (the second
model, in float32, is the receipt's): a stored checkpoint is read instead.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from bench_text import save_tokenizer

from voxelboard.benchmark import evaluate
from voxelboard.benchmark.encoding.designs import SegmentedDesign, SegmentRows
from voxelboard.benchmark.encoding.ridge import fit_ridge
from voxelboard.benchmark.models.alignment import FastTokenizer
from voxelboard.benchmark.models.passages import plan_causal
from voxelboard.benchmark.models.quiet import quiet_transformers
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.readers.base import Responses
from voxelboard.benchmark.readers.lazy_runs import LazyRuns, keep_by_subject
from voxelboard.benchmark.readers.simulated import SimulatedNarrative, SimulationSpec
from voxelboard.benchmark.settings import Settings
from voxelboard.benchmark.submission import load_submission


def size(name: str, default: int) -> int:
    return int(os.environ.get(f"VOXELBOARD_BENCH_{name}", default))


DEVICE = torch.device(os.environ.get("VOXELBOARD_BENCH_DEVICE", "cuda"))
N_STORIES, N_TRS, N_SUBJECTS = size("STORIES", 27), size("TRS", 393), size("SUBJECTS", 3)
N_VOXELS, N_BLOCKS, WIDTH = size("VOXELS", 95_000), size("BLOCKS", 32), size("WIDTH", 4096)
DTYPE = "bfloat16" if DEVICE.type == "cuda" else "float32"
TORCH_DTYPE = getattr(torch, DTYPE)
N_REPEATS, SIGNAL = 2, 0.5

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(7200),
    pytest.mark.benchmark(group=f"{N_BLOCKS} blocks x {WIDTH}, {N_STORIES} stories, {N_SUBJECTS} x {N_VOXELS} voxels"),
    pytest.mark.skipif(
        DEVICE.type == "cuda" and not torch.cuda.is_available(),
        reason="needs a CUDA device; VOXELBOARD_BENCH_DEVICE=cpu and small sizes (see the file) run without one",
    ),
]


class Listeners(SimulatedNarrative):
    """The stories of the simulated data set and as many voxels as wanted, simulated story by story when they are read."""

    def __init__(self) -> None:
        sizes: dict[str, Any] = {"train_trs": N_TRS, "test_trs": N_TRS, "n_train": N_STORIES, "n_repeats": N_REPEATS}
        super().__init__(SimulationSpec(n_subjects=N_SUBJECTS, n_voxels=1, **sizes), name="bench-listeners")
        self.rois = np.resize(np.array(list(self.roi_shares)), N_VOXELS)
        self.simulating_s = 0.0

    @keep_by_subject
    def responses(self, subject: str) -> Responses:
        number, names = self.subjects.index(subject), list(self.stories)
        n_columns = sum(table.shape[1] for table in self.drives(names[0]).values())
        weights = np.random.default_rng([1, number]).standard_normal((n_columns, N_VOXELS), dtype=np.float32)

        def read(story: str) -> Any:
            start = time.perf_counter()
            drive = np.concatenate(list(self.drives(story).values()), axis=1).astype(np.float32)
            shape = (N_REPEATS if story.startswith("test") else 1, len(drive), N_VOXELS)
            run = np.random.default_rng([2, number, names.index(story)]).standard_normal(shape, dtype=np.float32)
            run += SIGNAL / n_columns**0.5 * (drive / drive.std(axis=0).clip(1e-6)) @ weights
            self.simulating_s += time.perf_counter() - start
            return run

        return Responses(subject, LazyRuns(names, read), self.rois)


@pytest.fixture(scope="module")
def listeners() -> Listeners:
    return Listeners()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, listeners: Listeners) -> Path:
    """A configuration and a tokenizer: weights are drawn."""
    folder = tmp_path_factory.mktemp("llama")
    save_tokenizer(folder, [story.text for story in listeners.stories.values()], vocab_size=8000)
    config = transformers.LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=WIDTH * 43 // 16,
        num_hidden_layers=N_BLOCKS,
        num_attention_heads=max(1, WIDTH // 128),
        max_position_embeddings=2048,
    )
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    return folder


def seconds_of(run: Callable[[], Any]) -> float:
    """The shortest of five runs, the device waited for."""
    found = []
    for _ in range(6):
        start = time.perf_counter()
        run()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return min(found[1:])


def peak(dtype: torch.dtype) -> float:
    """Operations a second of a square product."""
    side = 8192 if DEVICE.type == "cuda" else 1536
    left, right = (torch.randn(side, side, device=DEVICE).to(dtype) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: left @ right)


def n_tokens(checkpoint: Path, listeners: Listeners) -> int:
    """Tokens that go through the model, those of overlapping chunks twice."""
    with quiet_transformers():
        tokenizer = FastTokenizer(transformers.AutoTokenizer.from_pretrained(checkpoint), "bench")
    plans = [plan_causal(story, V1.context, tokenizer, 2048) for story in listeners.stories.values()]
    return sum(len(reading.tokens) for plan in plans for reading in plan.readings)


def floors(n_parameters: int, tokens: int) -> dict[str, float]:
    """Seconds of the counted arithmetic of reading and of fitting all layers, raw and unique, in the dual form."""
    policy, peaks = V1.encoding, {dtype: peak(dtype) for dtype in (TORCH_DTYPE, torch.float32, torch.float64)}
    n = N_STORIES * (N_TRS - 2 * V1.design.trim_trs)
    assert 2 * WIDTH * len(V1.design.delays_trs) > n, "the floor counts the dual form: fewer stories, or a wider model"
    fold, n_voxels = n / policy.n_inner_folds, N_SUBJECTS * N_VOXELS + V1.score.noise_brain_voxels
    factors = n**3 + policy.n_inner_folds * (fold**3 / 3 + 2 * fold**2 * (n - fold))
    products = 2.0 * n * (n - fold) * n_voxels + 2.0 * n * N_TRS * n_voxels / len(policy.relative_alphas)
    per_fit = len(policy.relative_alphas) * (products / peaks[torch.float32] + factors / peaks[torch.float64])
    gram = 2.0 * n**2 * WIDTH / peaks[torch.float64]
    return {
        "features": 2.0 * n_parameters * tokens / peaks[TORCH_DTYPE],
        "encoding and scores": (N_BLOCKS + 1) * (2 * per_fit + gram),
    }


def test_words_to_scores(
    benchmark: Any, listeners: Listeners, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VOXELBOARD_CACHE", str(tmp_path))
    monkeypatch.setattr(evaluate, "open_dataset", lambda *_: listeners)
    submission = load_submission(checkpoint).model_copy(update={"weights": "random"})
    settings = Settings(V1, device=str(DEVICE), dtype=DTYPE, offline=True)

    def run() -> list[Any]:
        return list(evaluate.measure(submission, "narrative", listeners.name, None, settings))

    records = [record for record, _ in benchmark.pedantic(run, rounds=1)]
    last = records[-1]
    seconds, model = last.environment.seconds, last.model
    embeddings = 32_000 * WIDTH
    floor = floors(model.n_parameters - embeddings, n_tokens(checkpoint, listeners))
    benchmark.extra_info.update(
        {
            "device": last.environment.device,
            "parameters": model.n_parameters,
            "stages_s": {stage: round(value, 2) for stage, value in seconds.items()},
            "simulating_s": round(listeners.simulating_s, 2),
            "floor_s": {stage: round(value, 3) for stage, value in floor.items()},
            "share": {stage: round(value / seconds[stage], 3) for stage, value in floor.items()},
            "receipt": last.checks.receipt_max_deviation,
            "host_gib": round(last.environment.peak_memory_bytes / 2**30, 2),
        }
    )
    if DEVICE.type == "cuda":
        benchmark.extra_info["device_gib"] = round(torch.cuda.max_memory_allocated(DEVICE) / 2**30, 2)
    assert [record.subject for record in records] == list(listeners.subjects)
    assert model.n_layers == N_BLOCKS + 1
    # batches against one text at a time in float32, in SDs of the layer
    assert 0 <= last.checks.receipt_max_deviation < (1e-3 if DTYPE == "float32" else 1.0)


@pytest.mark.benchmark(disable_gc=False)
def test_fits_are_the_closed_form(listeners: Listeners) -> None:
    """Four stories, a layer as wide as the model's, on the device: predictions of some voxels by numpy in float64."""
    stories, voxels = list(listeners.stories)[:4], slice(0, 64)
    rng = np.random.default_rng(0)
    features = {name: rng.standard_normal((N_TRS, WIDTH), dtype=np.float32) for name in stories}
    policy = V1.design
    design = SegmentedDesign(features, policy.delays_trs, policy.trim_trs, 2.0, policy.high_pass_s)
    segments = [SegmentRows(name, 0, N_TRS) for name in stories]
    runs = listeners.responses(listeners.subjects[0]).runs
    rows = [runs[name][0, policy.trim_trs : N_TRS - policy.trim_trs, voxels] for name in stories[:3]]
    responses = np.concatenate(rows)
    found = fit_ridge(
        design.problem(segments[:3], segments[3:], device=DEVICE),
        responses,
        np.repeat(np.arange(3), len(rows[0])),
        V1.encoding.relative_alphas,
    )
    scales = design.inverse_scales(segments[:3])
    train, test = design.rows(segments[:3], scales), design.rows(segments[3:], scales)
    gram, cross = train @ train.T, test @ train.T
    for v in range(0, 64, 9):
        shifted = gram + found.alphas[v] * np.eye(len(gram))
        expected = cross @ np.linalg.solve(shifted, responses[:, v].astype(np.float64))
        np.testing.assert_allclose(found.test_predictions[:, v], expected, atol=2e-5, rtol=0)
