# SPDX-License-Identifier: Apache-2.0
"""The toolbox of the field, for oracles."""

import warnings

import pytest


@pytest.fixture
def rsatoolbox():
    """Imported as a whole, with the warnings of its own imports left to it; skips without it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(
            "rsatoolbox",
            reason="pip install rsatoolbox scikit-image (rsatoolbox imports scikit-image and is no use without it)",
        )
