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


def pack(words: tuple[Arg, ...]) -> bytes:
    """A command in the bytes of the protocol."""
    try:
        return cast("bytes", _hiredis.pack_command(words))
    except UnicodeEncodeError:  # another client has written half a surrogate pair
        whole = [w.encode(errors="surrogatepass") if isinstance(w, str) else w for w in words]
        return cast("bytes", _hiredis.pack_command(tuple(whole)))


async def exchange(connection: Any, packed: bytes) -> Any:
    """Send a packed command and return its reply; connects first if necessary."""
    try:
        await connection.send_packed_command(packed, check_health=False)
        return await connection.read_response()
    except RuntimeError as error:  # uvloop, if the connection was just reset
        raise redis.exceptions.ConnectionError(str(error)) from error


async def drop_if_stale(connection: Any) -> None:
    """Disconnect an idle connection that has ended, or on which an unrequested reply has come."""
    if connection.is_connected and await _is_stale(connection):
        await connection.disconnect(nowait=True)


async def _is_stale(connection: Any) -> bool:
    if connection._writer.is_closing():  # reset: uvloop would raise RuntimeError at the next write
        return True
    try:
        return bool(await getattr(connection, _CAN_READ)())
    except (redis.exceptions.ConnectionError, OSError):  # redis-py before 8, if it has ended
        return True
