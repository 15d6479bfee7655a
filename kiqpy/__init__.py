"""Background jobs for asyncio on Redis, in Sidekiq's format."""

from __future__ import annotations

from kiqpy.app import App
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
from kiqpy.job import Job
from kiqpy.outcome import Discard, Kill, Snooze
from kiqpy.periodic import Periodic
from kiqpy.receipt import Receipt
from kiqpy.reporter import Reporter
from kiqpy.worker import Worker, current_job, worker

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
