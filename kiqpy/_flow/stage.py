"""What a stage is, in one line of types."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from kiqpy._flow.edge import Edge


class Stage(Protocol):
    """Takes from the left, puts to the right, closes its outlet when it returns, however it does.

    It puts no more than its outlet's credit. An await that owns something is short and shielded;
    an await that may be long owns nothing. What users' code raises is a value to it; a stage that
    raises is a defect of kiqpy, and its chain starts anew.
    """

    def run(
        self, inlet: Edge[Any] | None, outlet: Edge[Any] | None
    ) -> Coroutine[Any, Any, None]: ...
