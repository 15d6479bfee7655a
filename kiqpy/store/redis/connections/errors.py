"""Translates redis-py's errors into ours, by one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import redis.exceptions as theirs

from kiqpy.errors import FetchPaused, LeaseLost, StoreError, StoreRefused, StoreUnavailable


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
    # Before the words below, because this message names a key, which may contain any of them.
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
    """redis-py's error as one of ours. `known`: this server has answered a command before.

    A wrong password is a ConnectionError in redis-py. Here it is a refusal, unless the server has
    answered before: while an operator changes the password, jobs under way must not be lost.
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
    """Looks at causes too: redis-py may raise a ConnectionError from an AuthenticationError."""
    while error is not None and not isinstance(error, theirs.AuthenticationError):
        error = error.__cause__
    return error is not None
