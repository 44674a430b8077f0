# SPDX-License-Identifier: Apache-2.0
"""Secrets do not get into what is stored or shown."""

import re

# Hugging Face, GitHub, OpenAI-like keys; a password in an address; the value of an option that is named like a secret.
_SECRETS = (
    re.compile(r"(?P<keep>\b(hf|ghp|gho|ghs|github_pat|sk)[_-])[A-Za-z0-9_-]{8,}"),
    re.compile(r"(?P<keep>://)[^/\s:@]+:[^/\s@]+(?=@)"),
    re.compile(r"(?P<keep>--?[a-z-]*(token|password|secret|api-key)[= ])\S+", re.IGNORECASE),
)


def without_secrets(text: str) -> str:
    """``text`` without tokens of known forms and passwords in addresses: it is stored and may be published."""
    for pattern in _SECRETS:
        text = pattern.sub(lambda match: f"{match['keep']}***", text)
    return text
