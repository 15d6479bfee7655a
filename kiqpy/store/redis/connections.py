"""The wire: redis-py's connections, with everything that re-sends on its own turned off.

Three kinds, because they fail differently: a small pool for commands with a short timeout, one
connection for each queue that is waited on, and a blocking one for the heartbeat's thread. An
error here means one of two things, and says which: `StoreUnavailable` (no answer, or "not now":
send the same again) or `StoreRefused` (an answer: no).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final, cast, final

import hiredis
import redis.asyncio
import redis.asyncio.retry
import redis.backoff
import redis.exceptions
import redis.retry

from kiqpy.errors import (
    ConfigError,
    FetchPaused,
    LeaseLost,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from kiqpy.store.redis.scripts import script

_redis: Final[Any] = redis  # its `from_url` is not typed
_hiredis: Final[Any] = hiredis  # its `pack_command` is, but as taking one word
Arg = str | bytes | int | float

TIMEOUT_S: Final = 5.0  # for a command; every script is done within 5 ms
WAIT_S: Final = 4.0  # a wait is renewed this often: 0.25 commands a second for an idle queue
_SLACK_S: Final = 2.0  # beyond that, a wait without an answer has lost its connection
_NOT_NOW: Final = (
    "LOADING", "BUSY", "OOM", "READONLY", "MISCONF", "NOREPLICAS", "MASTERDOWN",
    "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED", "out of memory", "maxmemory", "read only replica",
)  # fmt: skip
_HAS_NEWS: Final = (  # how redis-py 8 calls it, and how versions before do
    "can_read" if hasattr(_redis.asyncio.Connection, "can_read") else "can_read_destructive"
)
_SCHEMES: Final = ("redis://", "rediss://", "unix://")


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


def translate(error: BaseException, where: str, *, known: bool = False) -> StoreError:
    """redis-py's error as one of ours; `known`: this server has answered us before.

    AuthenticationError is a ConnectionError there. Here it is final, but for a server that knew us:
    a password that is being changed must not cost the jobs that are under way.
    """
    text = str(error)
    if not known and _is_about_a_password(error):
        return StoreRefused(f"{where} refused the password or user ({text}): check the URL")
    if isinstance(error, redis.exceptions.NoPermissionError):
        return StoreRefused(f"{where} does not permit this user to do that: {text}")
    if text.startswith("LEASELOST"):
        return LeaseLost("this process's lease has run out; it claims jobs again after a heartbeat")
    if text.startswith("PAUSED"):
        return FetchPaused(text)
    silent = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError)
    passing = (
        redis.exceptions.ReadOnlyError, redis.exceptions.OutOfMemoryError,
        redis.exceptions.ClusterDownError, redis.exceptions.TryAgainError,
        redis.exceptions.MasterDownError,
    )  # fmt: skip
    if isinstance(error, (*silent, *passing)) or any(word in text for word in _NOT_NOW):
        return StoreUnavailable(f"{where} gave no answer: {text or type(error).__name__}")
    return StoreRefused(f"{where}: {text}")


def _is_about_a_password(error: BaseException | None) -> bool:
    """redis-py may raise a plain ConnectionError from it while it connects."""
    while error is not None and not isinstance(error, redis.exceptions.AuthenticationError):
        error = error.__cause__
    return error is not None


@final
class Link:
    """All connections of one process to one server."""

    def __init__(self, url: str, pool_size: int, options: Mapping[str, Any]) -> None:
        check_url(url)
        self.where = redacted(url)
        self._url = url
        self._options = dict(options)
        self._limit_s: float | None = self._options.get("socket_timeout", TIMEOUT_S)
        self._waiters: dict[str, Waiter] = {}
        self._pool = Pool(self.connection, pool_size)
        self._sync: Any = None
        self._known = False

    def _settings(self) -> dict[str, Any]:
        return {
            "protocol": 2,
            "socket_connect_timeout": TIMEOUT_S,
            "socket_timeout": TIMEOUT_S,
            "retry_on_error": [],
            "health_check_interval": 0,
            **self._options,
        }

    def _patience_s(self) -> float | None:
        """For a connection that is waited on: whatever a command may take comes on top."""
        given = self._options.get("socket_timeout", _SLACK_S)
        return None if given is None else WAIT_S + given

    def _untimed(self) -> dict[str, Any]:
        """redis-py makes a task to time each sending: two turns of the loop more.

        And up to Python 3.11 what it does that with, `asyncio.wait_for`, may swallow a cancel.
        """
        return self._settings() | {"socket_timeout": None}

    @contextlib.contextmanager
    def answers(self) -> Generator[None]:
        try:
            yield
        except (TimeoutError, redis.exceptions.RedisError, OSError) as error:
            raise translate(error, self.where, known=self._known) from error

    async def command(self, *words: Arg) -> Any:
        """One command, sent once."""
        with self.answers():
            answer = await self._send(*words)
        self._known = True
        return answer

    async def _send(self, *words: Arg) -> Any:
        async with asyncio.timeout(self._limit_s):
            return await self._pool.ask(words)

    async def call(self, name: str, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """One script, sent once; a server that does not know it yet is told the whole text."""
        known = script(name)
        with self.answers():
            try:
                return await self._send("EVALSHA", known.sha, len(keys), *keys, *args)
            except redis.exceptions.NoScriptError:  # an answer: it has not run
                return await self._send("EVAL", known.text, len(keys), *keys, *args)

    def call_now(self, name: str, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """`call` for a thread: blocks."""
        if self._sync is None:
            never = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
            self._sync = _redis.Redis.from_url(self._url, retry=never, **self._settings())
        known = script(name)
        with self.answers():
            try:
                return self._sync.execute_command("EVALSHA", known.sha, len(keys), *keys, *args)
            except redis.exceptions.NoScriptError:
                return self._sync.execute_command("EVAL", known.text, len(keys), *keys, *args)

    def connection(self) -> Any:
        """A connection of its own, not yet connected; no limit to how long it waits."""
        never = redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0)
        pool = _redis.asyncio.ConnectionPool.from_url(self._url, retry=never, **self._untimed())
        return pool.make_connection()

    def waiter(self, name: str) -> Waiter:
        """The connection on which `name` is waited for."""
        if name not in self._waiters:
            self._waiters[name] = Waiter(self, self.connection(), self._patience_s())
        return self._waiters[name]

    async def wait(self, name: str, words: Sequence[Arg]) -> Any:
        """A blocking command on the connection of `name`."""
        with self.answers():
            return await self.waiter(name).block(words)

    async def unwait(self, name: str) -> None:
        """Make a blocking command on the connection of `name` end now."""
        if name in self._waiters:
            await self._waiters[name].unblock()

    async def close(self) -> None:
        """Drop every connection."""
        waiters, self._waiters = self._waiters, {}
        for one in waiters.values():
            await one.connection.disconnect(nowait=True)
        await self._pool.close()
        if self._sync is not None:
            self._sync.close()
            self._sync = None


def _packed(words: tuple[Arg, ...]) -> bytes:
    try:
        return cast("bytes", _hiredis.pack_command(words))
    except UnicodeEncodeError:  # half a surrogate pair, in what another client wrote
        whole = [w.encode(errors="surrogatepass") if isinstance(w, str) else w for w in words]
        return cast("bytes", _hiredis.pack_command(tuple(whole)))


async def _ask(connection: Any, packed: bytes) -> Any:
    try:
        await connection.send_packed_command(packed, check_health=False)
        return await connection.read_response()
    except RuntimeError as error:  # uvloop's word for a connection that was reset just now
        raise redis.exceptions.ConnectionError(str(error)) from error


async def _is_stale(connection: Any) -> bool:
    """Whether an idle connection has ended, or holds what nobody asked for."""
    if connection._writer.is_closing():  # reset: uvloop raises RuntimeError at the next write
        return True
    try:
        return bool(await getattr(connection, _HAS_NEWS)())
    except (redis.exceptions.ConnectionError, OSError):  # so redis-py before 8 says it
        return True


@final
class Pool:
    """A few connections, each with one command at a time.

    redis-py's own pool and client cost more than the way to a near server: words are packed in
    Python, and every command is counted for metrics that nobody reads.
    """

    def __init__(self, make: Callable[[], Any], size: int) -> None:
        self._make = make
        self._room = asyncio.Semaphore(size)
        self._all: list[Any] = []
        self._idle: list[Any] = []

    async def ask(self, words: tuple[Arg, ...]) -> Any:
        """Send and wait. Cancelled or broken, the connection is dropped: its state is unknown."""
        packed = _packed(words)
        async with self._room:
            connection = self._idle.pop() if self._idle else self._made()
            try:
                if connection.is_connected and await _is_stale(connection):
                    await connection.disconnect(nowait=True)  # the server has hung up meanwhile
                return await _ask(connection, packed)
            except redis.exceptions.ResponseError:
                raise
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            finally:
                self._idle.append(connection)

    def _made(self) -> Any:
        connection = self._make()
        self._all.append(connection)
        return connection

    async def close(self) -> None:
        """Drop every connection; one that is used afterwards connects anew."""
        for connection in self._all:
            await connection.disconnect(nowait=True)


@final
class Waiter:
    """One connection and the command that blocks on it, if any."""

    def __init__(self, link: Link, connection: Any, patience_s: float | None) -> None:
        self.connection = connection
        self._patience_s = patience_s
        self._link = link
        self._client_id = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def block(self, words: Sequence[Arg]) -> Any:
        """Send and wait. Cancelled or broken, the connection is dropped: its state is unknown."""
        self._idle.clear()
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._ask(words)
        except BaseException:
            await self.connection.disconnect(nowait=True)
            raise
        finally:
            self._idle.set()

    async def _ask(self, words: Sequence[Arg]) -> Any:
        if self.connection.is_connected and await _is_stale(self.connection):
            await self.connection.disconnect(nowait=True)
        if not self.connection.is_connected:
            await self.connection.connect()
            asked = _packed(("CLIENT", "ID"))
            self._client_id = cast("int", await _ask(self.connection, asked))
        return await _ask(self.connection, _packed(tuple(words)))

    async def unblock(self) -> None:
        """Return once nothing blocks; asks again in case the command was still on its way."""
        while not self._idle.is_set():
            if self._client_id:
                await self._link.command("CLIENT", "UNBLOCK", self._client_id)
            with contextlib.suppress(asyncio.TimeoutError):
                async with asyncio.timeout(0.05):
                    await self._idle.wait()
