"""What the stages report to the engine; nothing of it changes what they do."""

from __future__ import annotations

from typing import Protocol

from kiqpy.errors import StoreError


class Monitor(Protocol):
    """Called in the event loop; must be quick and must not raise."""

    def on_error(self, queue: str, error: StoreError) -> None:
        """The store did not do what a pipeline needs; it goes on trying."""

    def on_recovery(self, queue: str) -> None:
        """The store does again what it did not do when `on_error` was last called."""

    def on_pause(self, queue: str, paused: bool) -> None:
        """A fetch has found the queue paused by the cluster, or not. At each fetch."""

    def on_failure(self, error: BaseException) -> None:
        """A pipeline has ended for good: its stages broke again and again."""
