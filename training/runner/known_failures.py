"""Which failures of checkpoints people were told of: each once, until it changes or a checkpoint succeeds."""

from __future__ import annotations

import re
from collections.abc import Iterable

from training.runner.storing import ENDINGS

_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")  # names of files, steps, sizes


class KnownFailures:
    def __init__(self) -> None:
        self._known = ""

    def is_new(self, error: str, kinds: Iterable[str] = ()) -> bool:
        """Whether nobody knows of it; from now on they do. At the end of a job it is another one than on its way."""
        failure = f"{bool(ENDINGS & set(kinds))} {_VARYING.sub('', error)}"
        is_new, self._known = failure != self._known, failure
        return is_new

    def forget(self) -> None:
        """A checkpoint succeeded: the next failure is a new one."""
        self._known = ""
