# SPDX-License-Identifier: Apache-2.0
"""Finds models on the Hugging Face Hub, and says of each why it is taken or not.

Lists are read through ``huggingface_hub``, which follows pages. Each model that may be taken is then asked for by itself:
its commit of now is what is pinned. Slow answers, 429 and 5xx are waited for and tried again a few times; a model
whose answer never comes is skipped for tonight, and asked for again the next time.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from voxelboard.benchmark.errors import MissingPrerequisite
from voxelboard.benchmark.submission import Submission, loader_of
from voxelboard.runners.queueing.filters import HubFilter

T = TypeVar("T")

_TRIES: Final = 4
_MOST_SECONDS: Final = 60.0
_ANSWER_SECONDS: Final = 30.0
_EXPAND: Final[list[Any]] = [
    "author",
    "cardData",
    "config",
    "createdAt",
    "disabled",
    "downloads",
    "gated",
    "lastModified",
    "library_name",
    "pipeline_tag",
    "private",
    "safetensors",
    "sha",
    "siblings",
    "tags",
]
# Weights in these forms are not the model that was trained, and need libraries of their own.
_QUANTISED: Final = frozenset({"gguf", "gptq", "awq", "bitsandbytes", "exl2", "mlx", "compressed-tensors", "fp8"})


@dataclass(frozen=True)
class Found:
    """A model of the hub: a submission, or the reason why not.

    Attributes
    ----------
    for_now : the reason may be gone tomorrow (the hub did not answer).
    """

    model: str
    revision: str
    submission: Submission | None
    reason: str = ""
    for_now: bool = False


class Patience:
    """Calls the hub, waits and tries again where that may help. ``sleep`` is for tests."""

    def __init__(self, sleep: Callable[[float], object] = time.sleep) -> None:
        self._sleep = sleep

    def call(self, ask: Callable[[], T]) -> T:
        """The answer; raises the last error when it did not come."""
        from huggingface_hub.errors import HfHubHTTPError

        attempt = 0
        while True:
            attempt += 1
            asked = None
            try:
                return ask()
            except HfHubHTTPError as error:
                status, asked = error.response.status_code, error.response.headers.get("Retry-After")
                if attempt == _TRIES or (status != 429 and status < 500):
                    raise
            except Exception as error:
                if attempt == _TRIES or not _unreachable(error):
                    raise
            self._sleep(_wait(asked, attempt))


def discover(wanted: HubFilter, *, patience: Patience | None = None, now: datetime | None = None) -> Iterator[Found]:
    """Models that the filter asks for, each once, the most downloaded first.

    Raises
    ------
    MissingPrerequisite
        when the hub cannot be listed at all.
    """
    from huggingface_hub import HfApi

    api, patience, now = HfApi(), patience or Patience(), now or datetime.now(UTC)
    seen: set[str] = set()
    for hub_task in wanted.hub_tasks:
        for author in wanted.authors or (None,):

            def listing(hub_task: str = hub_task, author: str | None = author) -> list[Any]:
                models = api.list_models(
                    pipeline_tag=hub_task, author=author, sort="downloads", limit=wanted.most, expand=_EXPAND
                )
                return list(models)

            try:
                models = patience.call(listing)
            except Exception as error:
                if not _no_answer(error):
                    raise
                raise MissingPrerequisite(
                    f"the hub could not be listed ({type(error).__name__}: {_first_line(error)})", "try again later"
                ) from error
            for model in models:
                if model.id not in seen:
                    seen.add(model.id)
                    yield _judge(model, wanted, api, patience, now)


def _judge(listed: Any, wanted: HubFilter, api: Any, patience: Patience, now: datetime) -> Found:
    from huggingface_hub.errors import RepositoryNotFoundError

    reason = _why_not(listed, wanted, now)
    if reason:
        return Found(listed.id, listed.sha or "", None, reason)
    try:
        model = patience.call(lambda: api.model_info(listed.id, expand=_EXPAND, timeout=_ANSWER_SECONDS))
    except RepositoryNotFoundError:
        return Found(listed.id, listed.sha or "", None, "it vanished from the hub")
    except Exception as error:
        if not _no_answer(error):
            raise
        reason = f"the hub did not answer ({type(error).__name__}: {_first_line(error)})"
        return Found(listed.id, listed.sha or "", None, reason, for_now=True)
    reason = _why_not(model, wanted, now)  # it may have changed since it was listed
    if reason or not model.sha:
        return Found(model.id, model.sha or "", None, reason or "the hub names no commit")
    try:
        return Found(model.id, model.sha, _submission(model, wanted))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return Found(model.id, model.sha, None, f"it makes no valid submission: {where}: {first['msg']}")


def _why_not(model: Any, wanted: HubFilter, now: datetime) -> str:
    """Why a model is not taken; empty when it is."""
    tags = {str(tag).lower() for tag in model.tags or ()}
    config = model.config or {}
    size, licence = _n_parameters(model), _licence(model)
    reasons = (
        (model.id in wanted.leave_out, "the filter leaves it out"),
        (bool(model.private), "it is private"),
        (bool(getattr(model, "disabled", False)), "the hub disabled it"),
        (bool(model.gated), "it is gated: its owner wants terms accepted first"),
        ("custom_code" in tags or "auto_map" in config, "it needs Python code of its own"),
        (bool(tags & _QUANTISED) or "quantization_config" in config, "its weights are quantised"),
        (model.library_name not in (None, "transformers"), f"it is for the library {model.library_name}"),
        (not _has_safetensors(model), "it has no safetensors weights"),
        (_loader(config) is None, f"no loader for the architectures {config.get('architectures')}"),
        (size is None, "the hub does not know its number of parameters"),
        (
            size is not None and not wanted.min_parameters <= size <= wanted.max_parameters,
            f"{size:,} parameters are outside of {wanted.min_parameters:,} to {wanted.max_parameters:,}"
            if size is not None
            else "",
        ),
        (not licence, "it states no licence"),
        (bool(wanted.licences) and licence not in wanted.licences, f"its licence is {licence}"),
        ((model.downloads or 0) < wanted.min_downloads, f"{model.downloads or 0} downloads in 30 days"),
        (
            model.created_at is not None and model.created_at < wanted.first_day(now),
            f"created {model.created_at:%Y-%m-%d}" if model.created_at else "",
        ),
    )
    return next((reason for holds, reason in reasons if holds), "")


def _submission(model: Any, wanted: HubFilter) -> Submission:
    card = model.card_data.to_dict() if model.card_data else {}
    return Submission.model_validate(
        {
            "schema_version": 1,
            "name": model.id if "/" in model.id else f"hub/{model.id}",
            "model": {
                "source": "hf",
                "id": model.id,
                "revision": model.sha,
                "loader": _loader(model.config or {}),
                "dtype": wanted.dtype,
            },
            "tasks": list(wanted.tasks),
            "metadata": {
                "display_name": model.id.rpartition("/")[2][:80],
                "family": str((model.config or {}).get("model_type", ""))[:300],
                "n_parameters": _n_parameters(model),
                "release_date": f"{model.created_at:%Y-%m-%d}" if model.created_at else None,
                "licence": _licence(model)[:300],
                "training_data": ", ".join(map(str, card.get("datasets") or ()))[:300],
                "openness": "weights",
            },
            "submitter": {"name": "nightly discovery", "relation": "third-party"},
        }
    )


def _n_parameters(model: Any) -> int | None:
    return int(model.safetensors.total) if model.safetensors else None


def _licence(model: Any) -> str:
    tagged = [str(tag).removeprefix("license:") for tag in model.tags or () if str(tag).startswith("license:")]
    stated = (model.card_data or {}).get("license") if model.card_data else None
    return tagged[0] if tagged else str(stated or "")


def _has_safetensors(model: Any) -> bool:
    return any(file.rfilename.endswith(".safetensors") for file in model.siblings or ())


def _loader(config: dict[str, Any]) -> str | None:
    return loader_of(config.get("architectures") or ())


def _no_answer(error: BaseException) -> bool:
    from huggingface_hub.errors import HfHubHTTPError

    return isinstance(error, HfHubHTTPError) or _unreachable(error)


def _unreachable(error: BaseException) -> bool:
    """Whether no answer came at all. By name: the hub's library changed its HTTP client between the versions we support."""
    return any(kind.__name__ == "TransportError" for kind in type(error).__mro__)


def _wait(asked: str | None, attempt: int) -> float:
    seconds = float(asked) if asked is not None and asked.replace(".", "", 1).isdecimal() else 2.0**attempt
    return min(seconds, _MOST_SECONDS)


def _first_line(error: BaseException) -> str:
    # the address that was asked says nothing to a reader
    return (str(error).splitlines() or [""])[0].partition(" for url")[0][:200]
