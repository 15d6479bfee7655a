"""One command and its reply on one of redis-py's connections."""

from __future__ import annotations

from typing import Any, Final, cast

import hiredis
import redis.exceptions
from redis.asyncio import Connection

_hiredis: Final[Any] = hiredis  # its `pack_command` is typed, but as taking one word
_HAS_NEWS: Final = (  # how redis-py 8 calls it, and how versions before do
    "can_read" if hasattr(Connection, "can_read") else "can_read_destructive"
)
Arg = str | bytes | int | float


def pack(words: tuple[Arg, ...]) -> bytes:
    """A command as it is sent."""
    try:
        return cast("bytes", _hiredis.pack_command(words))
    except UnicodeEncodeError:  # half a surrogate pair, in what another client wrote
        whole = [w.encode(errors="surrogatepass") if isinstance(w, str) else w for w in words]
        return cast("bytes", _hiredis.pack_command(tuple(whole)))


async def exchange(connection: Any, packed: bytes) -> Any:
    """Send a packed command and return its reply; connects if need be."""
    try:
        await connection.send_packed_command(packed, check_health=False)
        return await connection.read_response()
    except RuntimeError as error:  # uvloop raises it for a connection that was reset just now
        raise redis.exceptions.ConnectionError(str(error)) from error


async def drop_if_stale(connection: Any) -> None:
    """Disconnect an idle connection that has ended, or that holds what was not asked for."""
    if connection.is_connected and await _is_stale(connection):
        await connection.disconnect(nowait=True)


async def _is_stale(connection: Any) -> bool:
    if connection._writer.is_closing():  # reset: uvloop raises RuntimeError at the next write
        return True
    try:
        return bool(await getattr(connection, _HAS_NEWS)())
    except (redis.exceptions.ConnectionError, OSError):  # how redis-py before 8 says it
        return True
