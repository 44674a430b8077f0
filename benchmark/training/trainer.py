# SPDX-License-Identifier: Apache-2.0
"""Train one language model on one version of a corpus with Transformers' Trainer; stopped, it goes on where it was."""

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from voxelboard.benchmark.atomic import replace_file
from voxelboard.benchmark.errors import DataError, InvalidNumbers
from voxelboard.benchmark.models.quiet import quiet_transformers
from voxelboard.benchmark.optional import load_optional
from voxelboard.benchmark.protocol import hash_json
from voxelboard.benchmark.stimuli.corpora import read_manifest
from voxelboard.benchmark.training.ngrams import fit_ngrams
from voxelboard.benchmark.training.presets import Architecture, TrainingPreset, model_config
from voxelboard.benchmark.training.tokens import END, token_file, tokenizer_sha256, windows

RESULT = "training.json"
_CHECKPOINTS = "checkpoints"
VERSION = 2

TrainingProgress = Callable[[int, int], None]  # (steps done, steps in all)


@dataclass(frozen=True)
class TrainingResult:
    """``training.json`` beside a trained model.

    Attributes
    ----------
    key : hash of all that determines the weights.
    tokens_seen, corpus_tokens : of the run, and in the training part.
    curve : [step, validation loss] from the first measurement to the end; losses in nats a token.
    validation_loss, perplexity : at the end.
    ngram_loss : of a Kneser-Ney trigram model of the whole training part, on the same windows.
    baselines : losses of ``unigram``, ``bigram`` and ``trigram`` of the whole training part, and of ``unigram seen``, ...
        of its first ``tokens_seen`` tokens: what a model knows that saw as much.
    """

    key: str
    architecture: str
    preset: str
    ablation: str
    corpus_sha256: str
    seed: int
    n_parameters: int
    tokens_seen: int
    corpus_tokens: int
    validation_loss: float
    perplexity: float
    ngram_loss: float
    baselines: Mapping[str, float] = field(default_factory=dict)
    curve: tuple[tuple[int, float], ...] = field(default=())


def read_result(folder: Path) -> TrainingResult:
    """The result of a finished training; raises DataError when there is none."""
    try:
        values = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        return TrainingResult(**{**values, "curve": tuple((int(s), float(v)) for s, v in values["curve"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{folder} holds no finished training ({error})", "`voxelboard study train` resumes it"
        ) from error


class _Windows(Dataset[dict[str, torch.Tensor]]):
    def __init__(self, table: NDArray[Any]) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = torch.from_numpy(self._table[index].astype(np.int64))
        return {"input_ids": ids, "labels": ids}


def train_model(
    preset: TrainingPreset,
    architecture: Architecture,
    corpus: Path,
    tokenizer: Any,
    seed: int,
    output: Path,
    *,
    tokens_folder: Path,
    progress: TrainingProgress = lambda done, total: None,
) -> TrainingResult:
    """Train a model and save it as a checkpoint that a submission can name; a finished one is only read.

    Parameters
    ----------
    corpus : folder of a version, from ``prepare_corpus``.
    tokenizer : shared by all versions, from ``train_tokenizer``.
    output : folder of the checkpoint; unfinished training lies in it and goes on from its last checkpoint.
    tokens_folder : where the token files of all versions lie.

    Raises
    ------
    InvalidNumbers
        when the loss is NaN or infinite; what was trained before stays.
    MissingPrerequisite
        when ``accelerate``, which the Trainer needs, is not installed.
    """
    load_optional("accelerate", "training", "train")
    manifest = read_manifest(corpus)
    own = replace(preset, shapes={architecture: preset.shapes[architecture]})
    key = hash_json(
        [VERSION, asdict(own), architecture, manifest.sha256, tokenizer_sha256(tokenizer), seed, torch.__version__]
    )
    if (output / RESULT).is_file() and (done := read_result(output)).key == key:
        return done
    _forget_other_runs(output, key)
    train = token_file(corpus, "train", tokenizer, tokens_folder)
    held_out = windows(token_file(corpus, "validation", tokenizer, tokens_folder), preset.context)
    held_out = held_out[: preset.validation_windows]
    with quiet_transformers():
        model, losses = _run(
            preset, architecture, windows(train, preset.context), held_out, tokenizer, seed, output, progress
        )
        model.save_pretrained(output)
        tokenizer.save_pretrained(output)
    tokens_seen = preset.steps * preset.tokens_per_step
    baselines = _ngram_losses(train, tokens_seen, held_out, tokenizer, tokens_folder, corpus.name)
    result = TrainingResult(
        key=key,
        architecture=architecture,
        preset=preset.name,
        ablation=manifest.ablation,
        corpus_sha256=manifest.sha256,
        seed=seed,
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
        tokens_seen=tokens_seen,
        corpus_tokens=len(train),
        validation_loss=losses[-1][1],
        perplexity=math.exp(losses[-1][1]),
        ngram_loss=baselines["trigram"],
        baselines=baselines,
        curve=losses,
    )
    text = json.dumps(asdict(result), indent=2, sort_keys=True) + "\n"
    replace_file(output / RESULT, lambda file: file.write(text.encode()))
    shutil.rmtree(output / _CHECKPOINTS, ignore_errors=True)
    return result


def _forget_other_runs(output: Path, key: str) -> None:
    """Checkpoints of another request are of no use: they would be resumed as if they were of this one."""
    note = output / _CHECKPOINTS / "key"
    if not note.is_file() or note.read_text() != key:
        shutil.rmtree(output / _CHECKPOINTS, ignore_errors=True)
        (output / RESULT).unlink(missing_ok=True)
        replace_file(note, lambda file: file.write(key.encode()))


def _run(
    preset: TrainingPreset,
    architecture: Architecture,
    train: NDArray[Any],
    held_out: NDArray[Any],
    tokenizer: Any,
    seed: int,
    output: Path,
    progress: TrainingProgress,
) -> tuple[Any, tuple[tuple[int, float], ...]]:
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    end = tokenizer.convert_tokens_to_ids(END)
    cuda = torch.cuda.is_available()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(model_config(preset, architecture, len(tokenizer), end))
        arguments = TrainingArguments(
            output_dir=str(output / _CHECKPOINTS),
            max_steps=preset.steps,
            per_device_train_batch_size=preset.batch,
            per_device_eval_batch_size=preset.batch,
            gradient_accumulation_steps=preset.accumulation,
            learning_rate=preset.shapes[architecture].learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=max(1, round(preset.warm_up * preset.steps)),
            weight_decay=preset.weight_decay,
            adam_beta1=preset.momentum,
            adam_beta2=0.98,
            bf16=cuda and preset.precision == "bfloat16",
            use_cpu=not cuda,
            eval_strategy="steps",
            eval_steps=max(1, preset.steps // preset.measurements),
            eval_on_start=True,
            prediction_loss_only=True,
            save_steps=max(1, preset.steps // preset.checkpoints),
            save_total_limit=2,
            logging_steps=max(1, preset.steps // 50),
            logging_nan_inf_filter=False,
            report_to=[],
            disable_tqdm=True,
            seed=seed,
            data_seed=seed,
            dataloader_pin_memory=False,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=_Windows(train),
            eval_dataset=_Windows(held_out),
            callbacks=[_watch(progress, f"{architecture}, seed {seed}")],
        )
        _say_nothing(trainer)
        trainer.train(resume_from_checkpoint=last_checkpoint(output / _CHECKPOINTS))
        final = float(trainer.evaluate()["eval_loss"])
    measured = {int(e["step"]): float(e["eval_loss"]) for e in trainer.state.log_history if "eval_loss" in e}
    measured[preset.steps] = final
    return model, tuple(sorted(measured.items()))


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written whole: its state is written last, so one without is a torn one."""
    found = []
    for path in folder.glob("checkpoint-*"):
        try:
            state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            found.append((int(state["global_step"]), str(path)))
        except (OSError, ValueError, KeyError):
            shutil.rmtree(path, ignore_errors=True)
    return max(found)[1] if found else None


def _say_nothing(trainer: Any) -> None:
    """The Trainer prints its log lines to stdout, which belongs to results."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)


def _watch(progress: TrainingProgress, what: str) -> Any:
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        """Tells how far training is, and stops it when the loss means nothing any more."""

        def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
            """Tell how many steps of how many are done."""
            progress(int(state.global_step), int(state.max_steps))

        def on_log(
            self, _args: Any, state: Any, _control: Any, logs: Mapping[str, Any] | None = None, **_: Any
        ) -> None:
            """Stop where the loss is not finite."""
            for name in ("loss", "eval_loss", "grad_norm"):
                value = (logs or {}).get(name)
                if value is not None and not math.isfinite(float(value)):
                    raise InvalidNumbers(
                        f"training of {what}: {name} is {value} at step {state.global_step}; the last whole checkpoint is "
                        "kept. Lower the learning rate of the preset, or look for garbage in the corpus"
                    )

    return Watch()


def _ngram_losses(
    train: NDArray[Any], n_seen: int, held_out: NDArray[Any], tokenizer: Any, folder: Path, name: str
) -> dict[str, float]:
    """Losses of the n-gram models, in nats a token; made once for a version of the corpus."""
    sample = int(train[:100_000].sum())
    key = hash_json([VERSION, name, len(train), n_seen, sample, tokenizer_sha256(tokenizer), held_out.shape])
    path = folder / f"{name}-ngrams-{key[:16]}.json"
    try:
        return {str(which): float(loss) for which, loss in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError):
        pass
    losses = {
        f"{which}{label}": fit_ngrams(ids, len(tokenizer), order).mean_loss(held_out)
        for label, ids in (("", train), (" seen", train[:n_seen]))
        for order, which in enumerate(("unigram", "bigram", "trigram"), start=1)
    }
    replace_file(path, lambda file: file.write(json.dumps(losses).encode()))
    return losses
