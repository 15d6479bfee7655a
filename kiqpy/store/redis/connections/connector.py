"""How a server is reached: the one place that knows addresses and redis-py's settings.

A single server today. Sentinel and Cluster are further connectors: what a `Connections` does with
connections is the same for all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Protocol, final

import redis.asyncio
import redis.asyncio.retry
import redis.backoff
import redis.retry

from kiqpy.errors import ConfigError

_redis: Final[Any] = redis  # its `from_url` is not typed

TIMEOUT_S: Final = 5.0  # for a command; every script is done within 5 ms
WAIT_S: Final = 4.0  # a wait is renewed this often: 0.25 commands a second for an idle queue
_SLACK_S: Final = 2.0  # beyond that, a wait without an answer has lost its connection
_SCHEMES: Final = ("redis://", "rediss://", "unix://")


class Connector(Protocol):
    """Makes connections to a server, all of which have redis-py's own retries turned off.

    `where`: its address, as it may be shown. `command_s`, `wait_s`: within how many seconds a
    command and a blocking command must have an answer; None: whenever.
    """

    where: str
    command_s: float | None
    wait_s: float | None

    def connection(self) -> Any:
        """A connection that is not yet connected, and that waits for an answer without limit."""
        ...

    def client(self) -> Any:
        """A client that blocks, for a thread."""
        ...


@final
class SingleServer:
    """One server at one URL. ConfigError unless it is a Redis address."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        check_url(url)
        self._url = url
        self._settings: dict[str, Any] = {
            "protocol": 2,
            "socket_connect_timeout": TIMEOUT_S,
            "socket_timeout": TIMEOUT_S,
            "retry_on_error": [],
            "health_check_interval": 0,
            **options,
        }
        self.where = redacted(url)
        self.command_s: float | None = options.get("socket_timeout", TIMEOUT_S)
        slack_s = options.get("socket_timeout", _SLACK_S)
        self.wait_s: float | None = None if slack_s is None else WAIT_S + slack_s

    def connection(self) -> Any:
        never = redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0)
        # redis-py would make a task to time each sending: two turns of the loop more. And on
        # Python 3.11 it would do so with `asyncio.wait_for`, which may swallow a cancel.
        settings = self._settings | {"socket_timeout": None}
        pool = _redis.asyncio.ConnectionPool.from_url(self._url, retry=never, **settings)
        return pool.make_connection()

    def client(self) -> Any:
        never = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        return _redis.Redis.from_url(self._url, retry=never, **self._settings)


def check_url(url: str) -> None:
    """ConfigError unless `url` looks like a Redis address."""
    if not url.startswith(_SCHEMES):
        raise ConfigError(
            f"redis_url={redacted(url)!r}: it must begin with " + " or ".join(_SCHEMES)
        )
    try:
        _redis.asyncio.ConnectionPool.from_url(url)
    except ValueError as error:
        raise ConfigError(f"redis_url={redacted(url)!r}: {error}") from None


def redacted(url: str) -> str:
    """The address without its password."""
    url = re.sub(r"([?&](?:password|username)=)[^&]*", r"\1***", url)
    head, at, tail = url.rpartition("@")
    scheme, sep, user = head.partition("://")
    return f"{scheme}{sep}{user.split(':')[0]}:***{at}{tail}" if at else url
