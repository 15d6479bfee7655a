"""Periodic jobs of an app: declared, enqueued, run, listed, disabled, run at once."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from kiqpy import App, Config, ConfigError, LifecycleError, Periodic, current_job, worker
from kiqpy._runtime.periodics import PeriodicRow
from tests.cli.process import kiqpy
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio
RUNS: list[dict[str, Any]] = []


@worker(retry=False)
async def note(n: int = 0) -> None:
    RUNS.append({"n": n, **current_job().payload})


@worker(queue="mail")
async def mail() -> None: ...


class Jobs(App):
    queues = {"default": 5}
    workers = [note, mail]
    elect_ttl = 2.0
    periodics = [
        Periodic("* * * * * *", note, args=[1], misfire="all", name="tick"),
        ("0 3 * * *", mail, {"tz": "Europe/Paris"}),
        Periodic(worker=mail, every=3600, enabled=False),
    ]


@pytest.fixture
def jobs(redis_url: str) -> Jobs:
    RUNS.clear()
    return Jobs(redis_url=redis_url)


async def test_from_the_declaration_to_the_run(jobs: Jobs) -> None:
    events: list[Any] = []
    for pattern in ("leader.*", "periodic.*"):
        jobs.attach(pattern, events.append)
    async with jobs:
        await eventually(lambda: len(RUNS) >= 3, "three ticks")
        ident = jobs.store.ident
    ticks = [run["tick_at"] for run in RUNS]
    assert ticks == sorted(set(ticks))
    assert all(b - a == 1 for a, b in pairwise(ticks))
    assert {(run["n"], run["periodic"]) for run in RUNS} == {(1, "tick")}
    names = [event.name for event in events]
    assert names[0] == "leader.elected"
    assert names[-1] == "leader.resigned"
    assert Counter(names)["leader.elected"] == Counter(names)["leader.resigned"] == 1
    assert events[0].identity == events[-1].identity == ident
    told = {(event.jid, event.tick_at) for event in events[1:-1]}
    assert {(run["jid"], run["tick_at"]) for run in RUNS} <= told


async def test_a_stopped_leader_is_followed_at_once(jobs: Jobs, clean: TestServer) -> None:
    elected: list[str] = []
    other = Jobs(redis_url=clean.url, elect_ttl=60.0)
    jobs = Jobs(redis_url=clean.url, elect_ttl=60.0)
    jobs.attach("leader.elected", lambda _event: elected.append("one"))
    other.attach("leader.elected", lambda _event: elected.append("two"))
    async with jobs:
        await eventually(lambda: elected == ["one"], "an election")
    assert clean.cli("KEYS", "kiq:leader*") == []
    async with other:
        await eventually(lambda: elected == ["one", "two"], "the next, though a term is 60 s")
        [key] = clean.cli("KEYS", "kiq:leader*")  # type: ignore[misc]
        assert 0 < int(str(clean.cli("PTTL", str(key)))) <= 60_000
        assert clean.cli("GET", str(key)) == other.store.ident


async def test_who_declares_other_periodics_has_a_leader_of_its_own(clean: TestServer) -> None:
    one = Jobs(redis_url=clean.url)
    two = Jobs(redis_url=clean.url, periodics=[("* * * * * *", note, {"name": "second"})])
    told: Counter[str] = Counter()
    for app in (one, two):
        app.attach("periodic.enqueued", lambda event: told.update([event.periodic]))
    async with one, two:
        await eventually(lambda: set(told) == {"tick", "second"}, "both to have ticks")


async def test_no_periodics_no_leader(clean: TestServer) -> None:
    async with Jobs(redis_url=clean.url, periodics=[]) as jobs:
        await jobs.enqueue(note.new())
        await eventually(lambda: RUNS, "the job")
        assert clean.cli("KEYS", "kiq:leader*") == []
        assert await jobs.cron() == []


async def test_the_list(jobs: Jobs) -> None:
    async with jobs.client_only():
        rows = await jobs.cron()
    assert [(r.name, r.cron, r.worker, r.queue, r.tz, r.last_at, r.enabled) for r in rows] == [
        ("tick", "* * * * * *", "note", "default", "UTC", None, True),
        ("mail 0 3 * * * Europe/Paris", "0 3 * * *", "mail", "mail", "Europe/Paris", None, True),
        ("mail every 3600s", "every 3600s", "mail", "mail", "UTC", None, False),
    ]  # fmt: skip
    assert rows[0].next_at is not None
    assert 0 < rows[0].next_at - time.time() + 1 < 3
    assert rows[2].next_at is None


async def row(jobs: App, name: str) -> PeriodicRow:
    return next(row for row in await jobs.cron() if row.name == name)


@pytest.mark.slow  # a switch is heard within ten seconds
async def test_disable_and_enable(jobs: Jobs, clean: TestServer) -> None:
    async with jobs:
        await eventually(lambda: RUNS, "a tick")
        assert (await row(jobs, "tick")).last_at in {run["tick_at"] for run in RUNS} | {
            RUNS[-1]["tick_at"] + 1
        }
        async with Jobs(redis_url=clean.url).client_only() as operator:
            assert await operator.cron.disable("tick") is True
            assert await operator.cron.disable("tick") is False
            length = int(str(clean.cli("LLEN", "queue:default")))
            off = await row(operator, "tick")
            assert (off.enabled, off.next_at) == (False, None)
            told: list[Any] = []
            jobs.attach("periodic.enqueued", told.append)
            assert (await operator.cron.run_now("mail every 3600s")).state == "queued"
            await asyncio.wait_for(_seconds(clean, 3), 20)
            assert told == []
            assert int(str(clean.cli("LLEN", "queue:default"))) <= length
            assert await operator.cron.enable("tick") is True
            enabled_at = float(str(clean.cli("TIME")[0]))  # type: ignore[index]
            assert await operator.cron.enable("tick") is False
        await eventually(lambda: told, "a tick again, within ten seconds")
        assert told[0].tick_at >= enabled_at, "nothing that became due meanwhile is made good"


async def _seconds(server: TestServer, count: int) -> None:
    """Return when the server's clock has gone on by so many seconds."""

    def now() -> int:
        return int(str(server.cli("TIME")[0]))  # type: ignore[index]

    until = now() + count
    await eventually(lambda: now() >= until, "time to pass")


async def test_one_that_is_declared_as_disabled_can_be_enabled(jobs: Jobs) -> None:
    async with jobs.client_only():
        assert await jobs.cron.enable("mail every 3600s") is True
        found = await row(jobs, "mail every 3600s")
        assert found.enabled
        assert found.next_at is not None
        assert found.next_at % 3600 == 0
        assert await jobs.cron.disable("mail every 3600s") is True
        assert not (await row(jobs, "mail every 3600s")).enabled


async def test_run_now(jobs: Jobs) -> None:
    async with jobs.client_only():
        receipt = await jobs.cron.run_now("tick")
        [entry] = await jobs.store.census.queue_page("default", 0, 9)
    assert receipt.state == "queued"
    payload = json.loads(entry.raw)
    assert (payload["jid"], payload["args"], payload["periodic"]) == (receipt.jid, [1], "tick")
    assert "tick_at" not in payload


async def test_names_that_are_none_and_apps_that_are_not_started(jobs: Jobs) -> None:
    with pytest.raises(LifecycleError, match="is not started"):
        await jobs.cron()
    async with jobs.client_only():
        with pytest.raises(ConfigError, match="no periodic is called 'tik'; did you mean 'tick'"):
            await jobs.cron.enable("tik")
        with pytest.raises(ConfigError, match="declared: 'tick', 'mail 0 3"):
            await jobs.cron.run_now("qqqqqqqq")


async def test_init_may_change_them_and_is_checked(clean: TestServer) -> None:
    class Changed(Jobs):
        text: Any = "30 4 * * *"

        def init(self, config: Config) -> Config:
            return config.replace(periodics=[(self.text, mail)])

    jobs = Changed(redis_url=clean.url)
    async with jobs.client_only():
        assert [row.name for row in await jobs.cron()] == ["mail 30 4 * * *"]
    jobs.text = "30 24 * * *"
    with pytest.raises(ConfigError, match="field 2, hour: 24"):
        await jobs.start()


def test_the_declaration_stays_as_it_is(jobs: Jobs) -> None:
    assert len(Jobs.periodics) == 3
    assert jobs.periodics is Jobs.periodics
    assert len(jobs.config.periodics) == 3


# ---- the command

SHOP = """
from kiqpy import App, Periodic, worker

@worker
async def mail(n: int = 0) -> None: ...

class Jobs(App):
    workers = [mail]
    periodics = [("0 3 * * *", mail, {"tz": "Europe/Paris", "name": "nightly"}),
                 Periodic(worker=mail, every=60)]

class None_(App):
    workers = [mail]

jobs, none = Jobs(), None_()
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


@pytest.mark.slow
def test_kiqpy_cron(shop: Path, redis_url: str, clean: TestServer) -> None:
    def run(*words: str) -> tuple[int, str, str]:
        return kiqpy(shop, "cron", *words, KIQPY_REDIS_URL=redis_url)

    code, out, err = run("shop:jobs")
    assert (code, err) == (0, "")
    head, nightly, often = (re.split(r" {2,}", line) for line in out.splitlines())
    assert head == ["NAME", "WHEN", "ZONE", "WORKER", "QUEUE", "NEXT", "LAST"]
    assert nightly[:5] == ["nightly", "0 3 * * *", "Europe/Paris", "mail", "default"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\d 03:00:00\+0[12]:00", nightly[5])
    assert often[:3] == ["mail every 60s", "every 60s", "UTC"]
    assert often[5].endswith(":00+00:00")
    assert often[6] == "-"

    assert run("shop:jobs", "--disable", "nightly") == (0, "nightly: disabled\n", "")
    assert run("shop:jobs", "--disable", "nightly")[1] == "nightly: was already disabled\n"
    rows = json.loads(run("shop:jobs", "--json")[1])
    assert [(row["name"], row["enabled"]) for row in rows] == [
        ("nightly", False), ("mail every 60s", True),
    ]  # fmt: skip
    assert "disabled" in run("shop:jobs")[1]
    assert run("shop:jobs", "--enable", "nightly") == (0, "nightly: enabled\n", "")
    code, out, _ = run("shop:jobs", "--run", "nightly")
    assert (code, out[:21]) == (0, "nightly: queued, jid ")
    [raw] = clean.cli("LRANGE", "queue:default", 0, -1)  # type: ignore[misc]
    assert json.loads(str(raw))["jid"] == out.split()[-1]

    assert run("shop:none")[1] == "shop.None_ declares no periodics\n"
    code, _, err = run("shop:jobs", "--run", "nihgtly")
    assert code == 1
    assert "no periodic is called 'nihgtly'; did you mean 'nightly'?" in err
    code, _, err = run("shop:jobs", "--run", "a", "--enable", "b")
    assert code == 2
    assert "use only one of --enable, --disable and --run" in err
