# SPDX-License-Identifier: Apache-2.0
"""The two kinds of error that voxelboard raises on purpose.

Everything else is a bug and keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something a user can fix. Shown without a traceback.

    Parameters
    ----------
    message : what was got and what is allowed, in one or two lines.
    hint : what to type or change next.
    exit_code : 2 for usage or schema, 3 when a prerequisite (data, model, memory) is missing.
    """

    def __init__(self, message: str, hint: str = "", exit_code: int = 2) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class InvalidInput(UserError, ValueError):
    """What was passed to an estimator cannot be used: a ValueError too, as those who use scikit-learn expect."""


class DataError(UserError):
    """A data set on disk, or a stimulus, is not what its card or the protocol says."""


class MissingPrerequisite(UserError):
    """Data, weights, a package or memory is missing: exit code 3."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, exit_code=3)


class StorageError(UserError):
    """Something cannot be written (full disk, no permission): exit code 3, and the run stops, for the next cell could not either."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, exit_code=3)


class InvalidNumbers(Exception):
    """Numbers that would make a score invalid (NaN states, a failing canary): the run stops."""


def unknown_name(kind: str, got: str, allowed: Iterable[str], hint: str = "") -> UserError:
    """An error that lists what is allowed and suggests the nearest name."""
    names = sorted(allowed)
    near = get_close_matches(got, names, n=1)
    question = f" Did you mean {near[0]!r}?" if near else ""
    return UserError(f"unknown {kind} {got!r}; allowed: {', '.join(names)}.{question}", hint)
