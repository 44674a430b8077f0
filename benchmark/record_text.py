# SPDX-License-Identifier: Apache-2.0
"""A record as the text of its file: its canonical form, and a digest that needs no second writing of what was read."""

import hashlib
import json
from pathlib import Path
from typing import Any, Final

_START: Final = b'{\n  "'
_ENVIRONMENT: Final = b'\n  "environment": '
_NEXT_KEY: Final = b'\n  "'


def canonical(value: dict[str, Any]) -> str:
    """Canonical JSON text: sorted keys, two blanks, no NaN."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)


def text_digest(text: bytes) -> str:
    """SHA-256 of the canonical text of a record without its environment.

    A field that a later version adds does not change it, so records that nobody touched do not look like new ones. A text
    with the breaks of a canonical one is taken as it is: whoever only moved its keys has changed it.

    Parameters
    ----------
    text : a record's JSON, canonical or not, that was read without an error.
    """
    kept = _without_environment(text)
    if kept is None:
        value = json.loads(text)
        value.pop("environment", None)
        kept = canonical(value).encode()
    return hashlib.sha256(kept).hexdigest()


def stored_digest(path: Path) -> str:
    """:func:`text_digest` of a file."""
    return text_digest(path.read_bytes())


def _without_environment(text: bytes) -> bytes | None:
    """The lines of a canonical text but those of the environment; None for a text of another shape.

    No string holds a raw line break, so a break with two blanks and a quote is a key of the record itself; some keys come
    before this one and after it.
    """
    start, body = text.find(_ENVIRONMENT), text.rstrip()
    stop = text.find(_NEXT_KEY, start + 1)
    if not text.startswith(_START) or start < 0 or stop < 0:
        return None
    return body[:start] + body[stop:]
