"""Sends one command on one of redis-py's connections and returns its reply."""

from __future__ import annotations

from typing import Any, Final, cast

import hiredis
import redis.exceptions
from redis.asyncio import Connection

_hiredis: Final[Any] = hiredis  # its type of `pack_command` allows only one word
_CAN_READ: Final = (  # redis-py 8 renamed the method
    "can_read" if hasattr(Connection, "can_read") else "can_read_destructive"
)
Arg = str | bytes | int | float


class ConnectionEnded(redis.exceptions.ConnectionError):
    """The connection was there, and ended while a command had no reply yet."""


def pack(words: tuple[Arg, ...]) -> bytes:
    """A command in the bytes of the protocol."""
    try:
        return cast("bytes", _hiredis.pack_command(words))
    except UnicodeEncodeError:  # another client has written half a surrogate pair
        whole = [w.encode(errors="surrogatepass") if isinstance(w, str) else w for w in words]
        return cast("bytes", _hiredis.pack_command(tuple(whole)))


async def exchange(connection: Any, packed: bytes) -> Any:
    """Send a packed command on a connection that is there, and return its reply.

    Raises: ConnectionEnded: the other side has hung up; the command may have been carried out.
    """
    try:
        await connection.send_packed_command(packed, check_health=False)
        return await connection.read_response()
    except RuntimeError as error:  # uvloop, if the connection was just reset
        raise ConnectionEnded(str(error)) from error
    except redis.exceptions.ConnectionError as error:
        if type(error) is not redis.exceptions.ConnectionError:  # a reply that says "not now"
            raise
        raise ConnectionEnded(str(error)) from error


async def ensure_connected(connection: Any) -> bool:
    """Connect, unless a connection is there; whether it is a new one.

    One that has ended, or on which an unrequested reply has come, is dropped before.
    """
    if connection.is_connected:
        if not await _is_stale(connection):
            return False
        await connection.disconnect(nowait=True)
    await connection.connect()
    return True


async def _is_stale(connection: Any) -> bool:
    if connection._writer.is_closing():  # reset: uvloop would raise RuntimeError at the next write
        return True
    try:
        return bool(await getattr(connection, _CAN_READ)())
    except (redis.exceptions.ConnectionError, OSError):  # redis-py before 8, if it has ended
        return True
