"""docs/parity.md, 1.15: what travels, and how."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from kiqpy import ArgumentError, Job, worker
from kiqpy.event import JobStopped, JobSuccess
from tests.eventually import eventually
from tests.parity.parity_app import House, note, ran

pytestmark = pytest.mark.anyio


async def test_1_15_plain_json_with_no_field_that_is_null(house: House) -> None:
    async with house.client() as shop:
        await shop.enqueue(note.new({"a": [1, "x", None, 1.5, True]}))
        [payload] = house.payloads("queue:default")
        assert payload["args"] == [{"a": [1, "x", None, 1.5, True]}]
        assert None not in payload.values()
        assert "retry_count" not in payload


async def test_1_15_what_is_not_json_is_refused_and_not_rewritten(house: House) -> None:
    """Kiq made lists of tuples and text of pids, so that a job got something else."""
    for value in ((1, 2), {1, 2}, object(), float("inf"), {1: 2}):
        with pytest.raises(ArgumentError, match="argument 'n'"):
            note.new(value)


async def test_1_15_unknown_fields_are_no_error_and_reach_the_job(house: House) -> None:
    """A payload with a key that Kiq did not know could not be decoded."""
    async with house.open() as shop:
        await shop.enqueue(Job("note", [1], bid="b", cattr={"x": 1}))
        success = await house.told(JobSuccess)
    assert success.job.payload["cattr"] == {"x": 1}


async def test_1_15_the_text_of_arguments_survives_a_retry(house: House) -> None:
    """Verk wrote them twice as JSON, so that nothing could change them."""
    args = '[ 12345678901234567890123, 1.10, {"b":1,"a":[ ]}, "\\u00e9" ]'
    house.cli("SADD", "queues", "default")
    house.cli("LPUSH", "queue:default", '{"class":"fails","jid":"j","args":' + args + "}")
    async with house.open():
        await house.told(JobStopped)
        await eventually(lambda: house.cli("ZCARD", "retry") == 1, "the retry")
    [raw] = house.cli("ZRANGE", "retry", 0, -1)
    assert args in raw


async def test_1_15_jobs_that_verk_has_enqueued_run_and_are_retried_as_all_can_read(
    house: House,
) -> None:
    """The JSON of their arguments is text; `{}` if there are none."""
    for name, args in (("note", "[7]"), ("note", "{}"), ("fails", "[8]")):
        job = {"class": name, "args": args, "jid": f"{name}{args}", "queue": "default"}
        house.cli("LPUSH", "queue:default", json.dumps(job))
    async with house.open():
        await eventually(lambda: house.cli("ZCARD", "retry") == 1, "the retry")
        await eventually(lambda: len(ran) == 3, "all three")
    assert sorted(ran) == [0, 7, 8]
    [raw] = house.cli("ZRANGE", "retry", 0, -1)
    assert json.loads(raw)["args"] == [8]


async def test_1_15_objects_keep_string_keys(house: House) -> None:
    """Verk could make atoms of them, which are never freed."""
    async with house.open() as shop:
        await shop.enqueue(note.new({"key": {"inner": 1}}))
        await house.told(JobSuccess)
    assert ran == [{"key": {"inner": 1}}]


async def test_1_15_richer_values_by_codecs(house: House) -> None:
    """Toniq's "any term", but from a list of types."""

    @worker(codecs=[datetime, tuple])
    async def rich(*args: Any) -> None:
        ran.extend(args)

    when = datetime(2027, 1, 2, tzinfo=UTC)
    async with house.open(workers=[rich]) as shop:
        await shop.enqueue(rich.new(when, (1, when)))
        await house.told(JobSuccess)
    assert ran == [when, (1, when)]


async def test_1_15_what_waits_for_redis_is_compressed_in_memory_only(house: House) -> None:
    text = "x" * 1000
    async with house.client(confirm_timeout=0.05) as shop:
        house.server.kill()
        for n in range(300):
            assert (await shop.enqueue(note.new(text + str(n)))).state == "buffered"
        held = shop.client.snapshot()
        assert held.buffered == 300
        assert held.held_bytes < held.raw_bytes / 2
        house.server.start()
        await shop.flush()
        raws = house.cli("LRANGE", "queue:default", 0, -1)
        assert [json.loads(raw)["args"] for raw in reversed(raws)] == [
            [text + str(n)] for n in range(300)
        ]
