"""How to reach a server: no other module knows addresses or redis-py's settings.

`SingleServer` is the only connector today. Sentinel and Cluster would be further ones, and
`Connections` would stay the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, final

import redis.asyncio
import redis.asyncio.retry
import redis.backoff
import redis.connection
import redis.retry

from kiqpy.errors import ConfigError

if TYPE_CHECKING:
    from kiqpy._declare.address import Address

_waiting: Final[Any] = redis.asyncio
_blocking: Final[Any] = redis.connection  # a thread's

TIMEOUT_S: Final = 5.0  # for a command; every script ends within 5 ms
WAIT_S: Final = 4.0  # for one wait, then it is renewed: an idle queue costs 0.25 commands a second
_SLACK_S: Final = 2.0  # a wait without a reply for so much longer has lost its connection
_KINDS: Final = {
    "redis": "Connection",
    "rediss": "SSLConnection",
    "unix": "UnixDomainSocketConnection",
}
_FILES: Final = ("ssl_keyfile", "ssl_certfile", "ssl_ca_certs", "ssl_ca_path")
_OF_HOSTS: Final = ("socket_keepalive", "socket_keepalive_options", "socket_type")


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

    Raises: ConfigError: `url` is not the address of a Redis server, or the options do not fit it.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        from kiqpy._declare.address import read_address, redacted  # only a start pays for them
        from kiqpy._declare.connection import FIXED, redis_options

        address = read_address(url)
        said = {**redis_options("redis_options", options), **address.settings}
        self._settings: dict[str, Any] = {
            "socket_connect_timeout": TIMEOUT_S,
            "socket_timeout": TIMEOUT_S,
            **_fitting(said, address),
            **FIXED,
        }
        self._kind = _KINDS[address.scheme]
        self.where = redacted(url)
        self.command_s: float | None = self._settings["socket_timeout"]
        slack_s: float | None = said.get("socket_timeout", _SLACK_S)
        self.wait_s: float | None = None if slack_s is None else WAIT_S + slack_s
        self._try_out()

    def _try_out(self) -> None:
        try:
            self.connection()
        except (TypeError, ValueError, redis.RedisError) as error:
            raise ConfigError(f"redis-py can't make a connection as asked for: {error}") from None

    def connection(self) -> Any:
        never = redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0)
        # With a timeout redis-py makes a task for each command: two more turns of the event loop.
        # On Python 3.11 it uses `asyncio.wait_for` for that, which may swallow a cancellation.
        settings = self._settings | {"socket_timeout": None}
        return getattr(_waiting, self._kind)(retry=never, **settings)

    def client(self) -> Any:
        never = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        kind = getattr(_blocking, self._kind)
        pool = _blocking.ConnectionPool(connection_class=kind, retry=never, **self._settings)
        return redis.Redis(connection_pool=pool)


def _fitting(said: Mapping[str, Any], address: Address) -> dict[str, Any]:
    """The settings that this kind of connection knows.

    Raises: ConfigError: the address has no TLS, which a setting needs; a certificate's file is
    missing.
    """
    from kiqpy._declare.connection import NeedsTLS, keyword

    for name in said:
        known = keyword(name, "") if name not in ("host", "port", "path") else None
        if isinstance(known, NeedsTLS) and not address.tls:
            raise ConfigError(f"redis_options: {known.message(name)}")
    for name in _FILES:
        if said.get(name) and not Path(said[name]).exists():
            raise ConfigError(f"{name}={said[name]!r}: there is no such file")
    is_socket = address.scheme == "unix"
    return {k: v for k, v in said.items() if not (is_socket and k in _OF_HOSTS)}
