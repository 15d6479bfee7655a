"""Nothing that kiqpy writes is a trap for Ruby, whatever the arguments, names, tags and errors are.

Ruby itself judges, in one long-lived process: see traps.rb.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kiqpy import App, ArgumentError, ConfigError, Job, worker
from tests.interop.ruby import Ruby
from tests.interop.told import payloads
from tests.server import TestServer

pytestmark = pytest.mark.interop

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([1e15, 1e16, -1e15, 999999999999999.9, 1234567890123456.8, 1e-4, 9e-5])
    | text
)
arguments = st.lists(
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)
anything = st.text(max_size=20)  # lone surrogates, too
names = st.from_regex(r"[A-Za-z_<>&|\"' .:/]{1,12}", fullmatch=True) | text


class Odd(Exception):
    """Its text is whatever the test says."""


@worker(retry=1, backtrace=True, backoff=lambda _count, _error, _job: 100.0)
async def fails(error: list[str], *args: Any) -> None:
    kind, message = problems[-1]
    raise type(kind, (Odd,), {})(message)


class Shop(App):
    queues = {"default": 5}
    workers = [fails]


problems: list[tuple[str, str]] = []


async def states(job: Job, tags: list[str], fields: dict[str, Any]) -> dict[str, list[bytes]]:
    """The bytes of such a job in every place, as an app leaves them there."""
    app = Shop()
    async with app.testing() as tester:
        await app.enqueue(job)
        await app.enqueue(Job(job.class_, job.args, **fields), in_=50)
        tagged = fails.using(tags=tags) if tags else fails
        await app.enqueue(tagged.new([], *job.args))
        await tester.drain()
        retry = await rows(app, "retry")
        await app.admin.retry_all("retry")
        await tester.drain()
        again = await rows(app, "retry")
        await app.admin.requeue_all("retry")
        await tester.drain()
        return {
            "queue:default": await rows(app, "queue:default"),
            "schedule": await rows(app, "scheduled"),
            "retry": [*retry, *again],
            "dead": await rows(app, "dead"),
        }


async def rows(app: App, place: str) -> list[bytes]:
    return [row.raw for row in (await app.admin.jobs(place, per=100)).rows]


def keep(server: TestServer, found: dict[str, list[bytes]]) -> list[str]:
    """Put all into Redis; the jids of what Ruby's poller is to move."""
    server.cli("FLUSHALL")
    server.cli("SADD", "queues", "default")
    for place, members in found.items():
        for n, raw in enumerate(members):
            if place.startswith("queue:"):
                server.cli("LPUSH", place, raw)
            else:
                server.cli("ZADD", place, 1000 + n, raw)
    due = [*payloads(server, "schedule"), *payloads(server, "retry")]
    return [job["jid"] for job in due]


@given(
    args=arguments,
    name=names,
    tags=st.lists(text, max_size=2),
    error=st.tuples(names, anything),
    fields=st.dictionaries(st.sampled_from(["é", "cattr", "x"]), st.dictionaries(text, scalars)),
)
@example([1e22, 1e-5, -1e15], "A::B", [], ("E", ""), {})
@example(["\x7f\x00\u2028</script>"], "<script>", ["<b>"], ("<b>", "\ud800" * 20_000), {"é": {}})
@settings(
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_nothing_that_kiqpy_writes_is_a_trap(
    ruby: Ruby,
    clean: TestServer,
    args: list[Any],
    name: str,
    tags: list[str],
    error: tuple[str, str],
    fields: dict[str, Any],
) -> None:
    try:
        job = Job(name, args)
    except (ArgumentError, ConfigError):
        job = Job("Known", args)
    problems.append(("E" + error[0].replace("\0", ""), error[1]))
    found = asyncio.run(states(job, tags, fields))
    due = keep(clean, found)
    assert ruby.ask("found") == []
    assert ruby.ask("broken") == []
    assert ruby.ask("doubled") == []
    before = len(payloads(clean, "queue:default"))
    assert ruby.ask("promote") is None
    moved = payloads(clean, "queue:default")[before:]
    assert Counter(job["jid"] for job in moved) == Counter(due)
    assert ruby.ask("broken") == []
    for one in moved:
        given_args = one["args"][1:] if one["class"] == "fails" else one["args"]
        assert json.dumps(given_args) == json.dumps(args)
