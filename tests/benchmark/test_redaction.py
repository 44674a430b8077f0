# SPDX-License-Identifier: Apache-2.0
"""Tokens and passwords in a command line are not stored."""

import sys

import pytest
import torch

from voxelboard.benchmark.environment import Stopwatch, describe_environment
from voxelboard.benchmark.redaction import without_secrets


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("run -m hf_abcDEF1234567890", "run -m hf_***"),
        ("clone https://me:pass-word@host.org/x", "clone https://***@host.org/x"),
        ("run --hub-token=abc123 -m gpt2", "run --hub-token=*** -m gpt2"),
        ("run --password hunter2", "run --password ***"),
        ("push ghp_0123456789abcdef", "push ghp_***"),
        ("run -m openai-community/gpt2 --data https://host/x", "run -m openai-community/gpt2 --data https://host/x"),
        ("run -m my/hf_model --tokenizer x", "run -m my/hf_model --tokenizer x"),
    ],
)
def test_secrets_go_and_the_rest_stays(text: str, kept: str) -> None:
    assert without_secrets(text) == kept


def test_the_command_of_a_record_holds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/voxelboard", "run", "--token", "hf_secret_secret"])
    environment = describe_environment(Stopwatch(), torch.device("cpu"), "auto")
    assert environment.command == "voxelboard run --token ***"
