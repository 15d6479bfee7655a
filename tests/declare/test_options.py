"""Worker options are checked where they are written, with the fix in the message."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from kiqpy._declare.checks import duration, instant, queue_name, retry_limit
from kiqpy._declare.options import Options, options
from kiqpy.errors import ConfigError


class TestOptions:
    def test_defaults(self) -> None:
        made = options({})
        assert made == Options()
        assert (made.queue, made.retry, made.dead, made.timeout) == ("default", None, True, None)

    def test_all_of_them(self) -> None:
        made = options(
            {"queue": "a:b", "retry": 3, "timeout": timedelta(minutes=1), "expires_in": 5,
             "tags": ["x"], "aliases": ("Old",), "executor": "thread", "name": "New"}
        )  # fmt: skip
        assert (made.queue, made.retry, made.timeout, made.expires_in) == ("a:b", 3, 60.0, 5.0)
        assert (made.tags, made.aliases, made.executor) == (("x",), ("Old",), "thread")

    def test_inherits(self) -> None:
        base = options({"queue": "low", "retry": 0})
        assert options({"retry": 5}, base) == options({"queue": "low", "retry": 5})

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("max_retries", "did you mean 'retry'"),
            ("queue_name", "did you mean 'queue'"),
            ("quue", "did you mean 'queue'"),
            ("time_limit", "did you mean 'timeout'"),
            ("result_ttl", "results come in a later version"),
            ("zzzzzz", "known: aliases"),
        ],
    )
    def test_an_unknown_name_gets_the_nearest(self, name: str, hint: str) -> None:
        with pytest.raises(ConfigError, match=hint):
            options({name: 1})

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            ({"queue": "a b"}, "queue name 'a b'"),
            ({"retry": -1}, "retry=-1"),
            ({"retry": "3"}, "retry='3'"),
            ({"timeout": "5"}, "timeout='5'"),
            ({"timeout": -1}, "at least 0"),
            ({"expires_in": True}, "expires_in=True"),
            ({"tags": "x"}, "list of strings"),
            ({"tags": [1]}, "list of strings"),
            ({"aliases": 5}, "list of strings"),
            ({"executor": "fiber"}, "give 'async', 'thread' or 'process'"),
        ],
    )
    def test_a_wrong_value_is_named(self, given: dict[str, Any], says: str) -> None:
        with pytest.raises(ConfigError, match=says):
            options(given)


class TestValues:
    @pytest.mark.parametrize("name", ["default", "a-b", "a_b", "a:b", "a.b", "A1", "x" * 128])
    def test_queue_names(self, name: str) -> None:
        assert queue_name(name) == name

    @pytest.mark.parametrize(
        "name", ["", "x" * 129, "a b", "a|b", "a/b", "é", "a\n", "a{b}", "*", None, 5, b"q"]
    )
    def test_names_that_no_queue_can_have(self, name: object) -> None:
        with pytest.raises(ConfigError, match="queue name"):
            queue_name(name)

    def test_durations(self) -> None:
        assert duration("t", 5) == 5.0
        assert duration("t", timedelta(seconds=1.5)) == 1.5
        for bad in (True, "5", None, float("nan")):
            with pytest.raises(ConfigError, match="t="):
                duration("t", bad)
        with pytest.raises(ConfigError, match="at least 1 seconds"):
            duration("t", 0.5, least=1.0)

    def test_instants(self) -> None:
        at = datetime(2030, 1, 2, tzinfo=UTC)
        assert instant("at", at) == at.timestamp()
        assert instant("at", at.astimezone(timezone(timedelta(hours=5)))) == at.timestamp()
        assert instant("at", 1_900_000_000) == 1_900_000_000.0
        with pytest.raises(ConfigError, match="no time zone"):
            instant("at", at.replace(tzinfo=None))
        with pytest.raises(ConfigError, match="milliseconds"):
            instant("at", 1_900_000_000_000)
        for bad in (-1, "tomorrow", True, None, float("nan")):
            with pytest.raises(ConfigError, match="at="):
                instant("at", bad)

    def test_retry_limits(self) -> None:
        assert [retry_limit("retry", value) for value in (True, False, 0, 7)] == [True, False, 0, 7]
        for bad in (-1, 1.5, "3", None):
            with pytest.raises(ConfigError, match="retry="):
                retry_limit("retry", bad)
