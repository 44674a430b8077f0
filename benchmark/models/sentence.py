# SPDX-License-Identifier: Apache-2.0
"""How a sentence model pools, read from the files that its own package would read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.models.checkpoint import inside, read_json
from voxelboard.benchmark.models.pooling import SENTENCE_MODES, PoolSentences, SentenceMode

# Flags of 1_Pooling/config.json; newer files have one key ``pooling_mode`` instead.
_FLAGS: dict[str, SentenceMode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class SentenceLayout:
    """Pooling of a sentence model, the longest input that it was made for, and whether it reads lower case.

    Prompts of the model card are not put before the text: every model sees the same words.
    """

    pooling: PoolSentences
    max_tokens: int | None = None
    lower_case: bool = False


def read_sentence_layout(folder: Path, model: str) -> SentenceLayout:
    """Read modules.json and what it names; without one, the masked mean over all tokens.

    Raises
    ------
    UserError
        for a module other than Transformer, Pooling and Normalize, and for several poolings at once.
    """
    if not (folder / "modules.json").is_file():
        return SentenceLayout(PoolSentences("mean"))
    mode: SentenceMode = "mean"
    normalise = False
    max_tokens, lower_case = None, False
    for module in read_json(folder / "modules.json", list):
        kind = str(module.get("type", "")).rsplit(".", 1)[-1]
        place = inside(folder, str(module.get("path", "")), model)
        if kind == "Transformer":
            max_tokens, lower_case = _read_transformer(place)
        elif kind == "Pooling":
            mode = _read_pooling(read_json(place / "config.json"), model)
        elif kind == "Normalize":
            normalise = True
        else:
            raise UserError(
                f"{model}: modules.json has a module {kind!r}; allowed: Transformer, Pooling, Normalize",
                "use the loader masked or causal to read the transformer alone",
            )
    return SentenceLayout(PoolSentences(mode, normalise), max_tokens, lower_case)


def _read_transformer(place: Path) -> tuple[int | None, bool]:
    settings = place / "sentence_bert_config.json"
    if not settings.is_file():
        return None, False
    content = read_json(settings)
    longest = content.get("max_seq_length")
    return (int(longest) if longest else None), bool(content.get("do_lower_case", False))


def _read_pooling(config: dict[str, Any], model: str) -> SentenceMode:
    flagged = [mode for flag, mode in _FLAGS.items() if config.get(flag)]
    if "pooling_mode" in config:
        named = config["pooling_mode"]
        flagged = named if isinstance(named, list) else [named]
    if len(flagged) != 1 or flagged[0] not in SENTENCE_MODES:
        raise UserError(
            f"{model}: 1_Pooling/config.json asks for {flagged or 'no pooling'}; "
            f"allowed is one of {', '.join(SENTENCE_MODES)}"
        )
    chosen: SentenceMode = flagged[0]
    return chosen
