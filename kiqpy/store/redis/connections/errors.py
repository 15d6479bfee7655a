"""What a server's refusal, or its silence, means for the caller: one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import redis.exceptions as theirs

from kiqpy.errors import FetchPaused, LeaseLost, StoreError, StoreRefused, StoreUnavailable


class _Row(NamedTuple):
    """Which errors become ours: those of a class, or those whose text is so."""

    matches: Callable[[BaseException, str], bool]
    error: type[StoreError]
    message: str  # {where}: the server; {text}: its own words


def _of(*classes: type[BaseException]) -> Callable[[BaseException, str], bool]:
    return lambda error, _text: isinstance(error, classes)


def _begins(*words: str) -> Callable[[BaseException, str], bool]:
    return lambda _error, text: text.startswith(words)


def _holds(*words: str) -> Callable[[BaseException, str], bool]:
    return lambda _error, text: any(word in text for word in words)


_NO_ANSWER: Final = "{where} gave no answer: {text}"
_LEASE_LOST: Final = "this process's lease has run out; it claims jobs again after a heartbeat"

# The first row that matches decides; what matches none is a refusal.
_ROWS: Final = (
    _Row(
        _of(theirs.NoPermissionError),
        StoreRefused,
        "{where} does not permit this user to do that: {text}",
    ),
    _Row(_begins("LEASELOST"), LeaseLost, _LEASE_LOST),
    _Row(_begins("PAUSED"), FetchPaused, "{text}"),
    # Before the words below, any of which may be part of the key that it names.
    _Row(_begins("WRONGTYPE"), StoreRefused, "{where}: {text}"),
    _Row(
        _of(
            theirs.ConnectionError,
            theirs.TimeoutError,
            OSError,
            theirs.ReadOnlyError,
            theirs.OutOfMemoryError,
            theirs.ClusterDownError,
            theirs.TryAgainError,
            theirs.MasterDownError,
        ),
        StoreUnavailable,
        _NO_ANSWER,
    ),
    _Row(
        _holds(
            "LOADING",
            "BUSY",
            "OOM",
            "READONLY",
            "MISCONF",
            "NOREPLICAS",
            "MASTERDOWN",
            "CLUSTERDOWN",
            "TRYAGAIN",
            "UNBLOCKED",
            "out of memory",
            "maxmemory",
            "read only replica",
        ),
        StoreUnavailable,
        _NO_ANSWER,
    ),
)


def translate(error: BaseException, where: str, *, known: bool = False) -> StoreError:
    """redis-py's error as one of ours; `known`: this server has answered us before.

    AuthenticationError is a ConnectionError in redis-py. Here it is a refusal, unless the server
    has answered before: a password that is being changed must not cost the jobs under way.
    """
    text = str(error)
    if not known and _is_about_a_password(error):
        return StoreRefused(f"{where} refused the password or user ({text}): check the URL")
    for row in _ROWS:
        if row.matches(error, text):
            shown = text or type(error).__name__
            return row.error(row.message.format(where=where, text=shown))
    return StoreRefused(f"{where}: {text}")


def _is_about_a_password(error: BaseException | None) -> bool:
    """redis-py may raise a plain ConnectionError from it while it connects."""
    while error is not None and not isinstance(error, theirs.AuthenticationError):
        error = error.__cause__
    return error is not None
