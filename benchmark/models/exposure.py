# SPDX-License-Identifier: Apache-2.0
"""Has a language model read the benchmark? Its loss on the stimuli against matched controls, and verbatim completion.

Topics and styles differ, so a lower loss alone says little. What a text is worth to a model that knows it by heart shows
when a few of its words are exchanged for others (Mattern et al. 2023, neighbourhood comparison): a known text gets much
worse, an unknown one only a little. The probe compares that cost between the stimuli and stories that were written for
this project after the models (:mod:`~voxelboard.benchmark.models.control_texts`). And it asks the model to go on: a text
that comes back word for word was memorised (Carlini et al. 2023). It is disclosed and shown; no score depends on it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.models.backbone import load_config, load_tokenizer
from voxelboard.benchmark.models.checkpoint import Checkpoint, open_checkpoint
from voxelboard.benchmark.models.control_texts import CONTROL_TEXTS, VERSION
from voxelboard.benchmark.models.quiet import quiet_transformers
from voxelboard.benchmark.models.spec import ModelSpec
from voxelboard.benchmark.models.trust import may_run_code
from voxelboard.benchmark.records import Estimate, ExposureProbe
from voxelboard.benchmark.statistics.intervals import t_interval
from voxelboard.benchmark.stimuli.stories import Story

FloatArray = NDArray[np.float64]

WINDOW_WORDS = 80
MAX_WINDOWS = 24  # of the stimuli; the controls give as many as they hold
EXCHANGED_SHARE = 0.15
N_PROMPTS = 12
PROMPT_WORDS, CONTINUED_WORDS = 40, 12
VERBATIM_WORDS = 8  # as many right in a row from the prompt on count as known by heart


@dataclass(frozen=True)
class Exposure:
    """What the probe found.

    Attributes
    ----------
    loss, control_loss : bits per word on the stimuli and on the controls, means over windows.
    cost, control_cost : (n_windows,) bits per word that a window gets worse by exchanged words.
    completed, control_completed : (n_prompts,) words that a greedy continuation gets right in a row.
    """

    loss: float
    control_loss: float
    cost: FloatArray
    control_cost: FloatArray
    completed: NDArray[np.int64]
    control_completed: NDArray[np.int64]


def summarise_exposure(found: Exposure, confidence: float = 0.95) -> ExposureProbe:
    """The probe as a record carries it; the excess has a Welch interval over windows."""
    a, b = found.cost, found.control_cost
    parts = [float(x.var(ddof=1)) / len(x) for x in (a, b)] if min(len(a), len(b)) > 1 else None
    estimator = "cost of exchanged words, stimuli - controls, Welch t over windows"
    excess = float(a.mean() - b.mean())
    if parts is None or sum(parts) == 0:
        nothing = "fewer than two windows, or all alike"
        estimate = Estimate(estimate=None, estimator=estimator, n=len(a), unit="bits per word", reason=nothing)
    else:
        se = float(np.sqrt(sum(parts)))
        df = sum(parts) ** 2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
        interval = t_interval(excess, se, df, len(a) + len(b), estimator, confidence)
        estimate = Estimate(
            estimate=interval.estimate,
            standard_error=interval.se,
            low=interval.low,
            high=interval.high,
            estimator=estimator,
            n=interval.n,
            unit="bits per word",
        )
    return ExposureProbe(
        loss=found.loss,
        control_loss=found.control_loss,
        excess=estimate,
        verbatim_share=float((found.completed >= VERBATIM_WORDS).mean()),
        control_verbatim_share=float((found.control_completed >= VERBATIM_WORDS).mean()),
        longest_verbatim_words=int(found.completed.max()),
        n_prompts=len(found.completed),
        controls_version=VERSION,
    )


class CausalHead:
    """A causal model with its head and tokenizer: losses and continuations of texts, one text at a time."""

    def __init__(self, module: torch.nn.Module, tokenizer: Any, device: torch.device, max_tokens: int) -> None:
        self._module, self._tokenizer, self._device, self._max_tokens = module, tokenizer, device, max_tokens

    @torch.inference_mode()
    def bits(self, text: str) -> float:
        """Bits that the text costs, all tokens but the first."""
        ids = self._ids(text)
        logits = self._module(input_ids=ids).logits[0, :-1].float()
        nats = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        return float(nats) / float(np.log(2))

    @torch.inference_mode()
    def go_on(self, text: str, n_tokens: int) -> str:
        """The greedy continuation of a text, ``n_tokens`` long."""
        ids = self._ids(text, room=n_tokens)
        start = ids.shape[1]
        for _ in range(n_tokens):
            best = self._module(input_ids=ids).logits[:, -1].argmax(dim=-1, keepdim=True)
            ids = torch.cat([ids, best], dim=1)
        continued: str = self._tokenizer.decode(ids[0, start:], skip_special_tokens=True)
        return continued

    def _ids(self, text: str, room: int = 0) -> torch.Tensor:
        ids = self._tokenizer(text, return_tensors="pt", add_special_tokens=True)["input_ids"]
        return torch.as_tensor(ids)[:, -(self._max_tokens - room) :].to(self._device)


def load_head(
    spec: ModelSpec, *, device: torch.device, offline: bool, allow_remote_code: bool, max_tokens: int | None
) -> CausalHead | str:
    """The causal model of a checkpoint with its head, or why it has none."""
    from transformers import AutoModelForCausalLM

    if spec.loader != "causal" or spec.weights != "pretrained":
        return "only pretrained causal language models have a loss on a text"
    checkpoint: Checkpoint = open_checkpoint(spec, offline=offline, cache_dir=None, with_weights=True)
    with quiet_transformers():
        trusted = may_run_code(spec, checkpoint, allow_remote_code)
        config = load_config(spec, checkpoint, trusted)
        try:
            module, info = AutoModelForCausalLM.from_pretrained(
                checkpoint.folder,
                config=config,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=trusted,
                output_loading_info=True,
            )
        except (OSError, ValueError, KeyError) as error:
            return f"its head cannot be loaded: {str(error).splitlines()[0]}"
        tokenizer = load_tokenizer(spec, checkpoint, trusted)
    if info["missing_keys"]:
        return f"the checkpoint has no language-model head ({sorted(info['missing_keys'])[0]} is missing)"
    return CausalHead(module.eval().to(device), tokenizer, device, max_tokens or 1024)


def probe(
    head: CausalHead,
    stories: Mapping[str, Story],
    *,
    seed: int,
    controls: Sequence[str] = CONTROL_TEXTS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Exposure:
    """Probe a model on the stories of a data set.

    Raises
    ------
    UserError
        for stories that are shorter than a window.
    """
    windows = [window for story in stories.values() for window in _windows(_story_words(story))]
    if not windows:
        raise UserError(f"no story has {WINDOW_WORDS} words: exposure cannot be probed")
    kept = [windows[i] for i in np.unique(np.linspace(0, len(windows) - 1, MAX_WINDOWS).round().astype(int))]
    own = [window for text in controls for window in _windows(written_like(text.split(), kept))]
    total, done = len(kept) + len(own), 0
    found: dict[str, list[tuple[float, float]]] = {"stimuli": [], "controls": []}
    for name, texts in (("stimuli", kept), ("controls", own)):
        for k, words in enumerate(texts):
            progress(done, total)
            rng = np.random.default_rng([seed, k, len(found[name])])
            before, after = (head.bits(" ".join(text)) / len(words) for text in (words, exchanged(words, rng)))
            found[name].append((before, after - before))
            done += 1
    measured = {name: np.array(values) for name, values in found.items()}
    completed = [np.array([_completed(head, words) for words in texts[:N_PROMPTS]]) for texts in (_spread(kept), own)]
    return Exposure(
        loss=float(measured["stimuli"][:, 0].mean()),
        control_loss=float(measured["controls"][:, 0].mean()),
        cost=measured["stimuli"][:, 1],
        control_cost=measured["controls"][:, 1],
        completed=completed[0],
        control_completed=completed[1],
    )


def exchanged(words: Sequence[str], rng: np.random.Generator) -> list[str]:
    """The words with a share of them exchanged for others of the same text and, as near as can be, the same length."""
    changed = list(words)
    n = max(1, round(EXCHANGED_SHARE * len(words)))
    for at in sorted(rng.choice(len(words), size=n, replace=False).tolist()):
        others = [word for word in words if word.lower() != words[at].lower()]
        distance = np.array([abs(len(word) - len(words[at])) for word in others])
        near = np.flatnonzero(distance == distance.min())
        changed[at] = others[int(rng.choice(near))]
    return changed


def written_like(words: Sequence[str], windows: Sequence[Sequence[str]]) -> list[str]:
    """Words as the stimuli are written: without capitals or marks where those have (next to) none."""
    stimuli = [word for window in windows for word in window]
    plain = np.mean([not any(c.isalnum() or c == "'" for c in word[-1:]) for word in stimuli]) < 0.02
    small = np.mean([word != word.lower() for word in stimuli]) < 0.02
    found = []
    for word in words:
        kept = "".join(c for c in word if c.isalnum() or c in "'-") if plain else word
        found.append(kept.lower() if small else kept)
    return [word for word in found if word]


def _story_words(story: Story) -> list[str]:
    return [story.text[a:b] for a, b in story.spans]


def _windows(words: Sequence[str]) -> list[list[str]]:
    return [list(words[at : at + WINDOW_WORDS]) for at in range(0, len(words) - WINDOW_WORDS + 1, WINDOW_WORDS)]


def _spread(windows: Sequence[list[str]]) -> list[list[str]]:
    """As many windows as there are prompts, from the whole of the stimuli."""
    return [windows[i] for i in np.unique(np.linspace(0, len(windows) - 1, N_PROMPTS).round().astype(int))]


def _completed(head: CausalHead, words: Sequence[str]) -> int:
    """Words that the continuation of a prompt gets right in a row."""
    asked = [_plain(word) for word in words[PROMPT_WORDS : PROMPT_WORDS + CONTINUED_WORDS]]
    given = [_plain(word) for word in head.go_on(" ".join(words[:PROMPT_WORDS]), 3 * CONTINUED_WORDS).split()]
    right = 0
    for want, got in zip(asked, given, strict=False):
        if want != got:
            break
        right += 1
    return right


def _plain(word: str) -> str:
    return "".join(character for character in word.lower() if character.isalnum())
