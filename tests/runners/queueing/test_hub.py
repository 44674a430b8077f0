# SPDX-License-Identifier: Apache-2.0
"""Discovery against a stand-in for the hub that is slow, refuses, fails, loses repositories and changes commits."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hub_stand_in import Hub, hub_stand_in, model, sha

from voxelboard.benchmark.errors import MissingPrerequisite, UserError
from voxelboard.runners.queueing.filters import HubFilter, read_filter
from voxelboard.runners.queueing.hub import Found, Patience, discover

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_stand_in() as running:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.url)
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # the library's own waiting
        yield running


def find(hub_filter: HubFilter | None = None, waits: list[float] | None = None) -> dict[str, Found]:
    patience = Patience((waits if waits is not None else []).append)
    wanted = hub_filter or HubFilter(schema_version=1, hub_tasks=("text-generation",), most=1000)
    return {found.model: found for found in discover(wanted, patience=patience, now=NOW)}


def test_hundreds_of_models_over_pages_are_pinned_to_their_commit_of_now(hub: Hub) -> None:
    hub.models = [model(f"org{i % 7}/model-{i}", i) for i in range(350)]
    hub.moved["org3/model-3"] = sha("org3/model-3", version=1)  # a commit between the list and the question
    found = find()
    assert len(found) == 350
    assert hub.asked["/api/models"] == 4
    submission = found["org3/model-3"].submission
    assert submission is not None
    assert submission.model.revision == found["org3/model-3"].revision == sha("org3/model-3", version=1)
    assert {one.submission.model.revision for one in found.values() if one.submission} == {
        one.revision for one in found.values()
    }
    assert (submission.label, submission.model.loader, submission.metadata.n_parameters) == (
        "org3/model-3",
        "causal",
        1_000_003,
    )
    assert list(found)[:2] == ["org0/model-0", "org1/model-1"], "the most downloaded first"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"gated": "manual"}, "gated"),
        ({"private": True}, "private"),
        ({"disabled": True}, "disabled"),
        ({"tags": ["custom_code", "license:mit"]}, "Python code of its own"),
        ({"config": {"architectures": ["XForCausalLM"], "auto_map": {"AutoModel": "x.Y"}}}, "Python code of its own"),
        ({"tags": ["gguf", "license:mit"]}, "quantised"),
        (
            {"config": {"architectures": ["LlamaForCausalLM"], "quantization_config": {"bits": 4}}},
            "quantised",
        ),
        ({"library_name": "timm"}, "library timm"),
        ({"siblings": [{"rfilename": "pytorch_model.bin"}]}, "no safetensors"),
        ({"config": {"architectures": ["WhisperStrange"]}}, "no loader for the architectures ['WhisperStrange']"),
        ({"safetensors": None}, "number of parameters"),
        ({"safetensors": {"parameters": {"F32": 10**12}, "total": 10**12}}, "1,000,000,000,000 parameters are outside"),
        ({"tags": [], "cardData": {}}, "no licence"),
        ({"tags": ["license:other"], "cardData": {"license": "other"}}, "its licence is other"),
        ({"downloads": 3}, "3 downloads"),
        ({"createdAt": "2019-01-01T00:00:00.000Z"}, "created 2019-01-01"),
        ({"id": "org/left-out"}, "the filter leaves it out"),
        ({"id": "org/_other"}, "no valid submission: name"),
    ],
)
def test_what_cannot_be_run_is_skipped_with_its_reason(hub: Hub, changes: dict[str, object], reason: str) -> None:
    hub.models = [model("org/fine", 1), {**model("org/other", 2), **changes}]
    wanted = HubFilter(
        schema_version=1,
        hub_tasks=("text-generation",),
        licences=("apache-2.0", "mit"),
        min_downloads=100,
        since="2020-01-01",
        leave_out=("org/left-out",),
    )
    found = find(wanted)
    (other,) = [one for name, one in found.items() if name != "org/fine"]
    assert found["org/fine"].submission is not None
    assert other.submission is None
    assert reason in other.reason
    assert not other.for_now


def test_429_and_5xx_and_a_dropped_line_are_waited_for(hub: Hub) -> None:
    hub.models = [model("org/a", 0), model("org/b", 1), model("org/c", 2)]
    hub.retry_after = "7"
    hub.trouble = {
        "/api/models": [429, 503],
        "/api/models/org/a": [429, 500],
        "/api/models/org/b": [0],
        "/api/models/org/c": [503] * 50,
    }
    waits: list[float] = []
    found = find(waits=waits)
    assert found["org/a"].submission is not None
    assert found["org/b"].submission is not None
    assert found["org/c"].submission is None
    assert found["org/c"].for_now
    assert "did not answer" in found["org/c"].reason
    assert 7.0 in waits, "as long as the hub asks for"
    assert max(waits) <= 60


def test_a_repository_that_vanishes_or_closes_between_list_and_question(hub: Hub) -> None:
    hub.models = [model("org/here", 0), model("org/gone", 1)]
    hub.gone = {"org/gone"}
    found = find()
    assert found["org/here"].submission is not None
    assert found["org/gone"].reason == "it vanished from the hub"


def test_a_hub_that_is_down_is_one_message(hub: Hub) -> None:
    hub.trouble = {"/api/models": [503] * 500}
    with pytest.raises(MissingPrerequisite, match="could not be listed"):
        find()


def test_slow_answers_are_waited_for(hub: Hub) -> None:
    hub.models, hub.slow = [model("org/a", 0)], 0.01
    assert find()["org/a"].submission is not None


def test_a_filter_file_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "nightly.yaml"
    path.write_text("schema_version: 1\nlicenses: [mit]\nsince: yesterday\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_filter(path)
    assert "nightly.yaml:2: unknown key licenses" in str(caught.value)
    assert "'licences'" in str(caught.value)
    assert "nightly.yaml:3: since: got 'yesterday'; allowed: YYYY-MM-DD" in str(caught.value)
    path.write_text("schema_version: 1\nsince: 30 days\nmost: 5\n", encoding="utf-8")
    assert read_filter(path).first_day(NOW) == datetime(2026, 10, 25, tzinfo=UTC)
