"""JSON lines: complete, in order, and written once a turn of the event loop."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import math
import subprocess
import sys
from typing import Any

import pytest
import structlog

from kiqpy.cli import _lines
from kiqpy.cli._lines import Output


class Counting(io.StringIO):
    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


@pytest.fixture
def stream() -> Any:
    stream = Counting()
    _lines.configure("info", Output(stream))
    yield stream
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def burst(n: int) -> None:
    log = structlog.get_logger("shop")
    for k in range(n):
        log.info("sold", k=k)
    log.debug("not written")


def test_a_turn_of_the_loop_is_one_write(stream: Counting) -> None:
    asyncio.run(burst(100))
    assert [line["k"] for line in lines(stream)] == list(range(100))
    assert stream.writes == 1
    assert lines(stream)[0].keys() == {"event", "k", "level", "logger", "timestamp"}
    assert lines(stream)[0]["timestamp"].endswith("Z")


def test_without_a_loop_a_line_is_written_at_once(stream: Counting) -> None:
    structlog.get_logger("shop").warning("closed")
    assert lines(stream)[0]["event"] == "closed"


@pytest.mark.parametrize("value", [{1, 2}, math.nan, object(), b"raw", ["nested", {"a": {1}}]])
def test_what_is_not_json_is_written_all_the_same(stream: Counting, value: object) -> None:
    structlog.get_logger("shop").info("odd", value=value)
    assert lines(stream)[0]["event"] == "odd"


def test_an_exception_is_in_its_line(stream: Counting) -> None:
    try:
        raise ValueError("no")
    except ValueError:
        structlog.get_logger("shop").exception("broken")
    assert "ValueError: no" in lines(stream)[0]["exception"]


def test_lines_of_logging_and_of_structlog_keep_their_order_and_are_not_lost_at_the_end() -> None:
    program = """
import asyncio, logging, sys, structlog
from kiqpy.cli import _logs
_logs.configure("info", "json", sys.stderr)
async def main():
    for k in range(3):
        structlog.get_logger("a").info("one", k=k)
        logging.getLogger("b").info("two")
    asyncio.get_running_loop().stop()
loop = asyncio.new_event_loop()
loop.create_task(main())
loop.run_forever()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in found] == ["one", "two"] * 3
    assert {line["logger"] for line in found} == {"a", "b"}
    assert logging.getLogger("b").name == "b"
