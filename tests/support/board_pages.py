# SPDX-License-Identifier: Apache-2.0
"""What the browser tests look at."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

ARTEFACTS = Path(__file__).resolve().parents[2] / "artefacts" / "board"
OpenPage = Callable[..., Any]
# one of each kind, and models with maps, with checkpoints, and with a failure
PAGES = (
    "index.html",
    "tasks/narrative--simulated-narrative.html",
    "tasks/drama--simulated-drama.html",
    "models/acme__quill-7b--0123456789ab.html",
    "models/lab__pebble-160m--fa0000000000.html",
    "models/lab__lantern-mask--0123456789ab.html",
    "compare.html",
    "protocol.html",
    "submit.html",
    "queue.html",
    "releases.html",
    "diff.html",
    "releases/2026.1/index.html",
    "tasks/captions--simulated-captions.html",
    "tasks/ablation--simulated-ablation.html",
)
