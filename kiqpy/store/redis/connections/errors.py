"""Translates redis-py's errors into ours, by one table."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

import redis.exceptions as theirs

from kiqpy.errors import FetchPaused, LeaseLost, StoreError, StoreRefused, StoreUnavailable
from kiqpy.store import FrameWithdrawn, HungUp
from kiqpy.store.redis.connections.exchange import ConnectionEnded

E = TypeVar("E", bound=BaseException)


class ServerFull(StoreUnavailable):
    """The server is at its `maxmemory`: it takes nothing that needs memory until it has room."""


class _Row(NamedTuple):
    """Errors for which `matches` holds, by class or text, become `error` with `message`."""

    matches: Callable[[BaseException, str], bool]
    error: type[StoreError]
    message: str  # {where}: the server; {text}: its message


def _of(*classes: type[BaseException]) -> Callable[[BaseException, str], bool]:
    return lambda error, _text: isinstance(error, classes)


def _begins(*words: str) -> Callable[[BaseException, str], bool]:
    return lambda _error, text: text.startswith(words)


def _holds(*words: str) -> Callable[[BaseException, str], bool]:
    return lambda _error, text: any(word in text for word in words)


_NO_ANSWER: Final = "{where} gave no answer: {text}"
_FULL: Final = "{where} is full, it takes no new jobs until some have run: {text}"
_TOO_LARGE: Final = (
    "{where} takes nothing this large ({text}): raise its proto-max-bulk-len, or pass a reference "
    "to the data instead of the data"
)
_LEASE_LOST: Final = "this process's lease has run out; it claims jobs again after a heartbeat"

# The first row that matches decides; an error that matches none is a refusal.
_ROWS: Final = (
    _Row(
        _of(theirs.NoPermissionError),
        StoreRefused,
        "{where} does not permit this user to do that: {text}",
    ),
    _Row(_begins("LEASELOST"), LeaseLost, _LEASE_LOST),
    _Row(_begins("PAUSED"), FetchPaused, "{text}"),
    _Row(_begins("WITHDRAWN"), FrameWithdrawn, "{text}"),
    _Row(_of(ConnectionEnded), HungUp, _NO_ANSWER),
    _Row(_begins("Protocol error: invalid bulk length"), StoreRefused, _TOO_LARGE),
    # Before the words below, because this message names a key, which may contain any of them.
    _Row(_begins("WRONGTYPE"), StoreRefused, "{where}: {text}"),
    _Row(_of(theirs.OutOfMemoryError), ServerFull, _FULL),
    _Row(
        _of(
            theirs.ConnectionError,
            theirs.TimeoutError,
            OSError,
            theirs.ReadOnlyError,
            theirs.ClusterDownError,
            theirs.TryAgainError,
            theirs.MasterDownError,
        ),
        StoreUnavailable,
        _NO_ANSWER,
    ),
    _Row(_holds("OOM", "out of memory", "maxmemory"), ServerFull, _FULL),
    _Row(
        _holds(
            "LOADING",
            "BUSY",
            "READONLY",
            "MISCONF",
            "NOREPLICAS",
            "MASTERDOWN",
            "CLUSTERDOWN",
            "TRYAGAIN",
            "UNBLOCKED",
            "read only replica",
        ),
        StoreUnavailable,
        _NO_ANSWER,
    ),
)


def translate(error: BaseException, where: str, *, known: bool = False) -> StoreError:
    """redis-py's error as one of ours. `known`: this server has answered a command before.

    AuthenticationError is a ConnectionError in redis-py, and so is a certificate that nobody
    trusts. Here they are refusals, unless the server has answered before: a password or a
    certificate that is being changed must not cost the jobs under way.
    """
    text = str(error)
    if not known and (refused := _never_accepted(error, where, text)) is not None:
        return refused
    for row in _ROWS:
        if row.matches(error, text):
            shown = text or type(error).__name__
            if not known and where.startswith("rediss:") and _is_mute(error):
                shown += "; its port may not speak TLS, then the URL begins with redis://"
            return row.error(row.message.format(where=where, text=shown))
    return StoreRefused(f"{where}: {text}")


def _never_accepted(error: BaseException, where: str, text: str) -> StoreRefused | None:
    """What a server and its client can't come to agree about by trying again."""
    if _among_causes(error, theirs.AuthenticationError):
        return StoreRefused(f"{where} refused the password or user ({text}): check the URL")
    if (untrusted := _among_causes(error, ssl.SSLCertVerificationError)) is not None:
        reason = untrusted.verify_message.rstrip(".")
        return StoreRefused(
            f"{where} has a certificate that is not trusted ({reason}): name "
            'its authority, redis_options={"ssl_ca_certs": "ca.pem"}, and use the host name that '
            "the certificate is for"
        )
    return None


def _is_mute(error: BaseException) -> bool:
    """Whether somebody was there and did not answer as TLS does."""
    return not _among_causes(error, ConnectionRefusedError) and bool(
        _among_causes(error, ssl.SSLError) or isinstance(error, TimeoutError | theirs.TimeoutError)
    )


def _among_causes(error: BaseException | None, kind: type[E]) -> E | None:
    """redis-py may raise a plain ConnectionError from it while it connects."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error
