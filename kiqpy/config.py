"""Every option of an app with its default, in one frozen table, checked when it is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
)

from kiqpy._declare.checks import (
    MAX_DELAY_S,
    Check,
    count,
    flag,
    folder,
    frames,
    functions,
    items,
    matching,
    one_of,
    optional_duration,
    retry_limit,
    seconds,
    sinks,
    time_limit,
)
from kiqpy._declare.env import read_env
from kiqpy._declare.options import BackoffFunction, refuse_unknown
from kiqpy._declare.renamed import RENAMED, hint, surely_meant
from kiqpy._declare.sources import QueueSpec
from kiqpy._record import Record
from kiqpy._rules.backoff import check_backoff
from kiqpy.errors import ConfigError, suggest
from kiqpy.queues import OF_EACH, Queue, queue_groups, queue_table
from kiqpy.reporter import reporters

if TYPE_CHECKING:
    from typing import Unpack

    from kiqpy.options import AppOptions, Url
    from kiqpy.periodic import Periodic

LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_QUEUES: Final[Mapping[str, int]] = MappingProxyType({"default": 25})
_MAX_RUNNING: Final = 10_000
_LATER: Final = {"durability": "durability levels"}


class Config(Record, kw_only=True):
    """All options of an app as they hold, durations in seconds; frozen. See `App` for each."""

    queues: Mapping[str, int] = _QUEUES
    groups: tuple[QueueSpec, ...] = ()
    redis_url: Url | None = None
    redis_options: Mapping[str, Any] = MappingProxyType(dict[str, Any]())
    embedded: bool = True
    embedded_dir: str = ".kiqpy"
    server: bool = True
    pool_size: int = 5
    fetch_interval: float = 0.5
    flush_interval: float = 0.01
    buffer_limit: int = 100_000
    buffer_bytes: int = 64 * 2**20
    push_timeout: float = 10.0
    confirm_timeout: float = 5.0
    on_unflushed: Literal["log", "raise"] = "log"
    schedulers: tuple[str, ...] = ("retry", "schedule")
    poll_interval: float = 1.0
    dead_limit: int = 10_000
    dead_timeout: float = 180 * 86_400.0
    shutdown_timeout: float = 25.0
    heartbeat_interval: float = 5.0
    lease_ttl: float = 30.0
    suspicion: float = 10.0
    stuck_after: float | None = 900.0
    unready_after: float = 10.0
    identity: str | None = None
    namespace: str = ""
    max_payload: int = 2**20
    max_running: int = _MAX_RUNNING
    retry: bool | int = True
    backoff: str | BackoffFunction = "sidekiq"
    backtrace: bool | int = False
    timeout: float | None = None
    threads: int = 40
    processes: int = 2
    periodics: tuple[Periodic, ...] = ()
    elect_ttl: float = 60.0
    middleware: tuple[Any, ...] = ()
    client_middleware: tuple[Any, ...] = ()
    death_handlers: tuple[Any, ...] = ()
    start_log_level: str = "debug"
    done_log_level: str = "info"
    fail_log_level: str = "warning"
    slow_after: float | None = None
    metrics: tuple[Any, ...] = ()
    tracing: bool = True
    propagation: Literal["link", "parent", "none"] = "link"
    leaked_tasks: Literal["cancel", "report", "ignore"] = "report"
    test_mode: Literal["sandbox", "inline", "fake", "redis"] | None = None
    reporters: tuple[Any, ...] = ()
    workers: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        """Without a password, so that it can be printed and logged."""
        from kiqpy._declare.address import redacted
        from kiqpy._declare.connection import without_secrets

        hidden: dict[str, object] = {"redis_options": without_secrets(self.redis_options)}
        if isinstance(self.redis_url, str):
            hidden["redis_url"] = redacted(self.redis_url)
        shown = ", ".join(f"{k}={hidden.get(k, v)!r}" for k, v in self._named().items())
        return f"{type(self).__qualname__}({shown})"

    def all_queues(self) -> list[str]:
        """Each queue that is declared by its name, in a group or not."""
        return [*self.queues, *(name for group in self.groups for name in group.named())]

    def specs(self) -> list[QueueSpec]:
        """What each pipeline works on."""
        queues = [Queue(limit, name) for name, limit in self.queues.items()]
        return [*queues, *self.groups]

    def replace(self, **changes: Unpack[AppOptions]) -> Config:
        """A copy with some options changed, checked like the first. Raises ConfigError."""
        kept: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if "queues" in changes:  # other queues stand instead of the groups, too
            kept["groups"] = ()
        return configure({**kept, **changes})


NAMES: Final = tuple(field.name for field in dataclasses.fields(Config))


def refuse(name: str) -> None:
    """ConfigError for an unknown option, with the nearest known name."""
    if (advice := hint(name)) is not None:
        raise ConfigError(f"unknown option {name!r}; {advice}")
    refuse_unknown(name, (*NAMES, "concurrency"), _LATER, RENAMED, "option")


def resembles(name: str, value: object) -> bool:
    """Whether an attribute of an App class is surely meant to be an option."""
    if name in _LATER or surely_meant(name):
        return True
    plain = not (name.startswith("_") or callable(value) or hasattr(value, "__get__"))
    return plain and name.islower() and bool(suggest(name, NAMES, 0.9))


def configure(given: Mapping[str, Any]) -> Config:
    """A Config of what a user wrote; ConfigError names what is wrong and how it is right."""
    for name in given:
        refuse(name)
    values = {name: read_env(value) for name, value in given.items()}
    if "concurrency" in values:
        values.setdefault("queues", _QUEUES)
    shared = values.pop("concurrency", OF_EACH)
    if "queues" in values:
        most = count("max_running", values.get("max_running", _MAX_RUNNING))
        values["queues"], groups = queue_table(values["queues"], shared, most)
        values["groups"] = (*items("groups", values.get("groups", ())), *groups)
    checked = {k: _CHECKS[k](k, v) if k in _CHECKS else v for k, v in values.items()}
    return _consistent(Config(**checked))


def _consistent(config: Config) -> Config:
    if config.heartbeat_interval * 2 > config.lease_ttl:
        raise ConfigError(
            f"heartbeat_interval={config.heartbeat_interval:g}: at most half of "
            f"lease_ttl={config.lease_ttl:g}, or one lost heartbeat gives the jobs away"
        )
    names = [name for spec in config.specs() for name in spec.queues]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"queue {twice[0]!r} is declared twice: a queue has one limit or group")
    total = sum(spec.concurrency for spec in config.specs())
    if total > config.max_running and len(names) > 1:
        raise ConfigError(
            f"queues add up to {total:,} jobs at a time, more than max_running="
            f"{config.max_running:,}"
        )
    return config


def _periodics(name: str, value: object) -> tuple[Periodic, ...]:
    if value == ():
        return ()
    from kiqpy.periodic import declared  # an expensive import, only for an app that declares some

    return declared(name, value)


def _unflushed(name: str, value: object) -> Any:
    if value == "spool":
        raise ConfigError(f'{name}="spool": spool files come in a later version; give "raise"')
    return one_of("log", "raise")(name, value)


def _schedulers(name: str, value: Any) -> tuple[str, ...]:
    places = (value,) if isinstance(value, str) else items(name, value)
    if not all(place in ("retry", "schedule") for place in places):
        raise ConfigError(f'{name}={value!r}: any of "retry" and "schedule", or []')
    return tuple(dict.fromkeys(places))


def _backoff(_name: str, value: Any) -> Any:
    check_backoff(value)
    return value


def _url(name: str, value: Any) -> Any:
    if value is not None and not isinstance(value, str) and not callable(value):
        raise ConfigError(f"{name}={value!r}: give a URL such as redis://localhost:6379/0")
    if isinstance(value, str):
        from kiqpy._declare.address import read_address  # an import that few declarations need

        read_address(value)
    return value


def _redis_options(name: str, value: object) -> Mapping[str, Any]:
    if value == {}:
        return MappingProxyType({})
    from kiqpy._declare.connection import redis_options

    return redis_options(name, value)


_CHECKS: Final[Mapping[str, Check]] = {
    "groups": queue_groups,
    "redis_url": _url,
    "redis_options": _redis_options,
    "embedded": flag,
    "embedded_dir": folder,
    "server": flag,
    "pool_size": count,
    "fetch_interval": seconds(0.001, 60),
    "flush_interval": seconds(0, 5),  # Kiq's default is 10, in milliseconds
    "buffer_limit": count,
    "buffer_bytes": count,
    "push_timeout": seconds(0, 1000),
    "confirm_timeout": seconds(0.01, 1000),
    "on_unflushed": _unflushed,
    "schedulers": _schedulers,
    "poll_interval": seconds(0.01, 300),
    "dead_limit": lambda name, value: count(name, value, least=0),
    "dead_timeout": seconds(1, MAX_DELAY_S),
    "shutdown_timeout": seconds(0, 1000),
    "heartbeat_interval": seconds(0.1, 60),
    "lease_ttl": seconds(0.2, 1000),
    "suspicion": seconds(0.1, 1000),
    "stuck_after": time_limit,
    "unready_after": seconds(0, 1000),
    "identity": matching(r"[A-Za-z0-9_.-]{1,64}", "use 1 to 64 of A-Z a-z 0-9 _ . -"),
    "namespace": matching(
        r"[A-Za-z0-9_.:{}-]{0,64}", "use up to 64 of A-Z a-z 0-9 _ . : { } -", optional=False
    ),
    "max_payload": count,
    "max_running": count,
    "retry": retry_limit,
    "backoff": _backoff,
    "backtrace": frames,
    "timeout": time_limit,
    "threads": count,
    "processes": count,
    "periodics": _periodics,
    "elect_ttl": seconds(0.2, 1000),
    "middleware": items,
    "client_middleware": items,
    "death_handlers": functions,
    "start_log_level": one_of(*LOG_LEVELS),
    "done_log_level": one_of(*LOG_LEVELS),
    "fail_log_level": one_of(*LOG_LEVELS),
    "leaked_tasks": one_of("cancel", "report", "ignore"),
    "slow_after": optional_duration,
    "metrics": sinks,
    "tracing": flag,
    "propagation": one_of("link", "parent", "none"),
    "test_mode": one_of("sandbox", "inline", "fake", "redis", None),
    "reporters": reporters,
    "workers": items,
}
