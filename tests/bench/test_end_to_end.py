# SPDX-License-Identifier: Apache-2.0
"""From words to test correlations: 12 blocks of a GPT-2 shape, three listeners, beside a pass a word and himalaya.

The peer reads each word after the words that it follows here, one text at a time with logits, as published pipelines do; it
resamples layer by layer, delays, and calls himalaya's ``KernelRidgeCV`` for each layer and listener. Of its words and
layers a few are timed and counted up. One thread: ``OMP_NUM_THREADS=1 pytest tests/bench/test_end_to_end.py -o addopts=``.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from bench_ridge import job
from bench_text import save_tokenizer
from numpy.typing import NDArray
from sklearn.model_selection import PredefinedSplit

from voxelboard.benchmark.encoding.designs import SegmentedDesign, SegmentRows
from voxelboard.benchmark.encoding.reference import himalaya_backend
from voxelboard.benchmark.encoding.ridge import fit_ridge
from voxelboard.benchmark.features.extract import resample_states
from voxelboard.benchmark.models.load import load_model
from voxelboard.benchmark.models.quiet import quiet_transformers
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.stimuli.stories import Story, make_story

N_STORIES, N_WORDS, WORDS_A_TR = 6, 480, 2.5
N_SUBJECTS, N_VOXELS, N_LAYERS = 3, 4000, 13
SOME_WORDS, SOME_LAYERS = tuple(range(200, 208)), (6,)  # on average words see as many others as these
LETTERS = np.array(list("etaoinshrdlu"))
TR = 2.0
# the bytes of float32 factors with every alpha scored in float32
FASTEST: dict[str, Any] = {"precision": "float32", "screening": "bfloat16"}

pytestmark = pytest.mark.timeout(900)


def make_stories() -> dict[str, Story]:
    rng = np.random.default_rng(0)
    lexicon = ["".join(rng.choice(LETTERS, size=n)) for n in rng.integers(2, 9, size=300)]
    onsets = np.arange(N_WORDS) * TR / WORDS_A_TR
    n_trs = int(N_WORDS / WORDS_A_TR)
    return {
        name: make_story(name, rng.choice(lexicon, size=N_WORDS).tolist(), onsets, onsets + 0.3, n_trs=n_trs, tr=TR)
        for name in (f"story{i}" for i in range(N_STORIES))
    }


class Job:
    """Stories, a checkpoint, and responses that follow a layer of it a little."""

    def __init__(self, folder: Path) -> None:
        self.stories, self.folder = make_stories(), folder
        save_tokenizer(folder, [story.text for story in self.stories.values()])
        config = transformers.GPT2Config(n_layer=N_LAYERS - 1, n_embd=192, n_head=6, n_positions=1024)
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            transformers.AutoModel.from_config(config).save_pretrained(folder)
        self.segments = [SegmentRows(name, 0, story.n_trs) for name, story in self.stories.items()]
        design, rng = self.design(self.features(), 6), np.random.default_rng(1)
        rows = design.rows(self.segments, design.inverse_scales(self.segments[:-1]))
        signal = rows @ rng.standard_normal((rows.shape[1], N_SUBJECTS * N_VOXELS))
        noise = rng.standard_normal((len(rows) + 1, N_SUBJECTS * N_VOXELS))
        Y = 0.4 * signal / signal.std(0) + noise[1:] + 0.5 * noise[:-1]
        n = len(rows) // N_STORIES
        self.Y, self.Y_test = Y[:-n].astype(np.float32), Y[-n:].astype(np.float32)
        self.folds = np.repeat(np.arange(N_STORIES - 1), n)

    def features(self) -> dict[str, NDArray[np.float32]]:
        model = load_model(ModelSpec(loader="causal", source="local", path=self.folder))
        return {
            name: resample_states(model.states(story, V1.context), story, V1) for name, story in self.stories.items()
        }

    def design(self, features: dict[str, NDArray[Any]], layer: int) -> SegmentedDesign:
        policy = V1.design
        one = {name: table[layer] for name, table in features.items()}
        return SegmentedDesign(one, policy.delays_trs, policy.trim_trs, TR, policy.high_pass_s)


def r_of(p: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    p, y = p - p.mean(0), y - y.mean(0)
    return np.asarray((p * y).sum(0) / np.sqrt((p**2).sum(0) * (y**2).sum(0)))


def ours(job: Job) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """For each layer (alphas in use, test correlations of all voxels)."""
    features, found = job.features(), []
    for layer in range(N_LAYERS):
        problem = job.design(features, layer).problem(job.segments[:-1], job.segments[-1:])
        fit = fit_ridge(problem, job.Y, job.folds, V1.encoding.relative_alphas, **FASTEST)
        found.append((fit.alpha_grid, r_of(fit.test_predictions, job.Y_test)))
    return found


def words_one_by_one(job: Job) -> Callable[[], None]:
    """A pass with logits for each of some words of the first story."""
    story = next(iter(job.stories.values()))
    with quiet_transformers():
        tokenizer = transformers.AutoTokenizer.from_pretrained(job.folder)
        model: Any = transformers.GPT2LMHeadModel.from_pretrained(job.folder).eval()

    @torch.inference_mode()
    def run() -> None:
        for word in SOME_WORDS:
            begin, stop = story.spans[V1.context.chunk_start(word)][0], story.spans[word][1]
            ids = tokenizer(story.text[begin:stop], return_tensors="pt")["input_ids"]
            model(input_ids=ids, output_hidden_states=True)

    return run


def fit_layer(
    job: Job, features: dict[str, NDArray[Any]], layer: int, alphas: NDArray[np.float64]
) -> NDArray[np.float64]:
    """himalaya for each listener, on delayed features."""
    from himalaya.kernel_ridge import KernelRidgeCV

    design = job.design(features, layer)
    scales = design.inverse_scales(job.segments[:-1])
    train, test = (
        torch.as_tensor(design.rows(part, scales)).float() for part in (job.segments[:-1], job.segments[-1:])
    )
    found = []
    with himalaya_backend("torch"):
        for s in range(N_SUBJECTS):
            mine = slice(s * N_VOXELS, (s + 1) * N_VOXELS)
            model = KernelRidgeCV(
                alphas=alphas,
                cv=PredefinedSplit(job.folds),
                warn=False,
                solver_params={"n_targets_batch": 2000, "n_alphas_batch": 5, "n_targets_batch_refit": 400},
            ).fit(train, torch.as_tensor(job.Y[:, mine]))
            found.append(r_of(model.predict(test).numpy(), job.Y_test[:, mine]))
    return np.concatenate(found)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return Job(tmp_path_factory.mktemp("gpt2"))


@job(f"12 blocks of GPT-2, {N_STORIES} stories of {N_WORDS} words, {N_SUBJECTS} x {N_VOXELS} voxels")
def test_words_to_correlations(benchmark: Any, world: Job) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = benchmark.pedantic(lambda: ours(world), rounds=1, iterations=1)
        features, read = world.features(), words_one_by_one(world)
        read()
        start = time.process_time()
        read()
        reading = (time.process_time() - start) / len(SOME_WORDS) * N_STORIES * N_WORDS
        start = time.process_time()
        peers = {layer: fit_layer(world, features, layer, found[layer][0]) for layer in SOME_LAYERS}
        fitting = (time.process_time() - start) / len(SOME_LAYERS) * N_LAYERS
    finally:
        torch.set_num_threads(before)
    difference = np.concatenate([np.abs(peers[layer] - found[layer][1]) for layer in SOME_LAYERS])
    benchmark.extra_info.update(
        ratio=(reading + fitting) / benchmark.stats.stats.median,
        peer_reading_s=reading,
        peer_fitting_s=fitting,
        median=float(np.median(difference)),
        max=float(difference.max()),
    )
    for layer in SOME_LAYERS:
        assert abs(float(peers[layer].mean() - found[layer][1].mean())) < 1e-5
    assert np.median(difference) < 1e-5
