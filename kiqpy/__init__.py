"""Background jobs for asyncio on Redis, in Sidekiq's format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kiqpy.clock import Clock
from kiqpy.codec import Codec
from kiqpy.config import Config, env
from kiqpy.errors import (
    ArgumentError,
    BufferFull,
    ConfigError,
    DecodeError,
    JobError,
    KiqError,
    LifecycleError,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    UnknownWorker,
)
from kiqpy.group import QueueGroup
from kiqpy.job import Job
from kiqpy.outcome import Discard, Kill, Snooze
from kiqpy.periodic import Periodic
from kiqpy.receipt import Receipt
from kiqpy.reporter import Reporter
from kiqpy.worker import Worker, current_job, worker

if TYPE_CHECKING:
    from kiqpy.app import App
else:

    def __getattr__(name: str) -> object:
        """The app brings the engine and Redis with it, so it is imported when it is asked for.

        pytest loads a plugin of this package at every start, whatever it then tests.
        """
        if name != "App":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from kiqpy.app import App

        globals()["App"] = App
        return App


__all__ = [
    "App",
    "ArgumentError",
    "BufferFull",
    "Clock",
    "Codec",
    "Config",
    "ConfigError",
    "DecodeError",
    "Discard",
    "Job",
    "JobError",
    "Kill",
    "KiqError",
    "LifecycleError",
    "Periodic",
    "QueueGroup",
    "Receipt",
    "Reporter",
    "Snooze",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "UnknownWorker",
    "Worker",
    "current_job",
    "env",
    "worker",
]
