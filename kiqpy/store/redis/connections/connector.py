"""How to reach a server: no other module knows addresses or redis-py's settings.

`SingleServer` is the only connector today. Sentinel and Cluster would be further ones, and
`Connections` would stay the same.
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

TIMEOUT_S: Final = 5.0  # for a command; every script ends within 5 ms
WAIT_S: Final = 4.0  # for one wait, then it is renewed: an idle queue costs 0.25 commands a second
_SLACK_S: Final = 2.0  # a wait without a reply for so much longer has lost its connection
_SCHEMES: Final = ("redis://", "rediss://", "unix://")


class Connector(Protocol):
    """Makes connections to a server, with redis-py's own retries turned off.

    `where`: its address without secrets. `command_s`, `wait_s`: seconds within which a command, and
    one that blocks, must get a reply; None: no limit.
    """

    where: str
    command_s: float | None
    wait_s: float | None

    def connection(self) -> Any:
        """A connection that is not yet connected; reading from it has no timeout."""
        ...

    def client(self) -> Any:
        """A blocking client, for a thread."""
        ...


@final
class SingleServer:
    """One server at one URL.

    Raises: ConfigError: `url` is not the address of a Redis server.
    """

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
        # With a timeout redis-py makes a task for each command: two more turns of the event loop.
        # On Python 3.11 it uses `asyncio.wait_for` for that, which may swallow a cancellation.
        settings = self._settings | {"socket_timeout": None}
        pool = _redis.asyncio.ConnectionPool.from_url(self._url, retry=never, **settings)
        return pool.make_connection()

    def client(self) -> Any:
        never = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        return _redis.Redis.from_url(self._url, retry=never, **self._settings)


def check_url(url: str) -> None:
    """Raise ConfigError unless `url` is the address of a Redis server."""
    if not url.startswith(_SCHEMES):
        raise ConfigError(
            f"redis_url={redacted(url)!r}: it must begin with " + " or ".join(_SCHEMES)
        )
    try:
        _redis.asyncio.ConnectionPool.from_url(url)
    except ValueError as error:
        raise ConfigError(f"redis_url={redacted(url)!r}: {error}") from None


def redacted(url: str) -> str:
    """The address without password, for messages."""
    url = re.sub(r"([?&](?:password|username)=)[^&]*", r"\1***", url)
    head, at, tail = url.rpartition("@")
    scheme, sep, user = head.partition("://")
    return f"{scheme}{sep}{user.split(':')[0]}:***{at}{tail}" if at else url
