"""What is asked of a store by time: periodic ticks, each enqueued once, and one leader."""

from __future__ import annotations

from typing import Protocol


class Calendar(Protocol):
    """Periodic ticks and leadership. Time is the store's."""
