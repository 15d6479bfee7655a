"""Background jobs for asyncio on Redis, in Sidekiq's format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kiqpy.current import current_job
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
from kiqpy.job import Job
from kiqpy.outcome import Discard, Kill, Snooze
from kiqpy.receipt import Receipt
from kiqpy.worker import Worker, worker

if TYPE_CHECKING:
    from kiqpy._declare.env import env
    from kiqpy.app import App
    from kiqpy.clock import Clock
    from kiqpy.codec import Codec
    from kiqpy.config import Config
    from kiqpy.periodic import Periodic
    from kiqpy.queues import BlockingQueues, QueueGroup
    from kiqpy.reporter import MetricsSink, Reporter
else:
    _HOMES = {
        "App": "app",
        "Clock": "clock",
        "Codec": "codec",
        "Config": "config",
        "env": "_declare.env",
        "BlockingQueues": "queues",
        "QueueGroup": "queues",
        "Periodic": "periodic",
        "MetricsSink": "reporter",
        "Reporter": "reporter",
    }

    def __getattr__(name: str) -> object:
        """Import when asked: a module of workers needs neither an engine nor Redis nor asyncio.

        pytest loads a plugin of this package at every start, whatever it then tests.
        """
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        found = getattr(import_module(f"kiqpy.{_HOMES[name]}"), name)
        globals()[name] = found
        return found


__all__ = [
    "App",
    "ArgumentError",
    "BlockingQueues",
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
    "MetricsSink",
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
