"""`kiqpy stats | queues | jobs | show | workers`: tables for people, documents for programs."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kiqpy._payload.json import pack_lines
from tests.cli.operator import Operator
from tests.cli.process import kiqpy
from tests.server import TestServer

IDENT = "host:7:abc"


def process(server: TestServer, ident: str = IDENT, **fields: Any) -> None:
    info = {"hostname": "host", "pid": 7, "started_at": time.time() - 90, "queues": ["mail"],
            "concurrency": 5, "tag": "shop", "labels": []}  # fmt: skip
    told = {"info": json.dumps(info), "busy": 1, "beat": time.time(), "quiet": "false",
            "rss": 20480, "rtt_us": 99, **fields}  # fmt: skip
    server.cli("SADD", "processes", ident)
    server.cli("HSET", ident, *(word for pair in told.items() for word in pair))
    server.cli("EXPIRE", ident, 60)
    payload = json.dumps({"class": "Send", "args": [1], "jid": "running"})
    work = {"queue": "mail", "payload": payload, "run_at": int(time.time()) - 30}
    server.cli("HSET", f"{ident}:work", "t1", json.dumps(work))
    server.cli("EXPIRE", f"{ident}:work", 60)


def test_stats(operator: Operator) -> None:
    today = datetime.now(UTC).date().isoformat()
    for name in ("processed", f"processed:{today}", "processed:mail"):
        operator.server.cli("SET", f"stat:{name}", 1234567)
    operator.put("queue:mail", "a")
    operator.put("dead", "b")
    document = operator.json("stats", "--days", "2")
    assert {name: document[name] for name in ("processed", "enqueued", "dead", "retry")} == {
        "processed": 1234567, "enqueued": 1, "dead": 1, "retry": 0,
    }  # fmt: skip
    assert document["days"][0] == {"date": today, "processed": 1234567, "failed": 0}
    assert document["queues"] == [{"queue": "mail", "processed": 1234567, "failed": 0}]
    assert sorted(document) == [
        "busy", "days", "dead", "enqueued", "failed", "processed", "processes", "queues", "retry",
        "scheduled",
    ]  # fmt: skip
    out = operator("stats").out
    assert "processed     1,234,567" in out
    assert f"{today}  1,234,567       0" in out


def test_queues(operator: Operator) -> None:
    assert operator("queues").out == "no queues\n"
    operator.put("queue:mail", "a", enqueued_at=time.time() - 90)
    operator.put_bytes("queue:odd", b"\xff")
    operator.server.cli("SADD", "paused", "odd")
    mail, odd = operator.json("queues")["queues"]
    assert odd == {"name": "odd", "size": 1, "latency_s": None, "paused": True}
    assert mail["latency_s"] == pytest.approx(90, abs=10)
    lines = operator("queues").out.splitlines()
    assert lines[0].split() == ["QUEUE", "SIZE", "LATENCY", "PAUSED"]
    assert lines[1].split()[:2] == ["mail", "1"]
    assert lines[1].split()[2].startswith("1m3")
    assert lines[2].split() == ["odd", "1", "-", "yes"]


def test_jobs(operator: Operator) -> None:
    for n in range(3):
        operator.put("retry", f"j{n}", score=1.7e9 + n, error_class="ValueError",
                     error_message="no\x1b[31m", retry_count=n, failed_at=5.5)  # fmt: skip
    document = operator.json("jobs", "retry", "--per", "2", "--page", "2")
    assert (document["total"], document["pages"], len(document["jobs"])) == (3, 2, 1)
    assert document["jobs"][0] == {
        "jid": "j2", "place": "retry", "queue": "mail", "class": "Send", "args": [1],
        "at": 1.7e9 + 2, "created_at": None, "enqueued_at": None, "failed_at": 5.5,
        "retried_at": None, "retry_count": 2, "error_class": "ValueError",
        "error_message": "no\x1b[31m", "error_backtrace": None, "readable": True,
    }  # fmt: skip
    out = operator("jobs", "retry").out
    assert "2023-11-14 22:13:20Z" in out
    assert "page 1 of 1, 3 jobs in retry" in out
    assert "\x1b" not in out
    assert "ValueError: no\\x1b[31m" in out
    newest = operator.json("jobs", "retry", "--newest")["jobs"]
    assert [job["jid"] for job in newest] == ["j2", "j1", "j0"]


def test_jobs_of_every_place(operator: Operator) -> None:
    for place in ("scheduled", "dead", "queue:mail"):
        operator.put(place, place)
        operator.put_bytes(place, b"\xff not json \x07")
        found = operator.json("jobs", place)["jobs"]
        assert sorted(job["jid"] for job in found) == ["", place]
        bad = next(job for job in found if not job["readable"])
        assert bad["raw"] == "\ufffd not json \x07"
        out = operator("jobs", place).out
        assert "(no job: \ufffd not json \\x07)" in out or "\\ufffd not json" in out
    assert operator("jobs", "retry").out == "page 1 of 1, 0 jobs in retry\n"


def test_show(operator: Operator) -> None:
    operator.put("retry", "a", error_message="no\nway", tags=["x"])
    operator.put("queue:mail", "b")
    document = operator.json("show", "a")
    assert (document["jid"], document["place"]) == ("a", "retry")
    assert document["payload"]["tags"] == ["x"]
    assert operator.json("show", "b", "--place", "queue:mail")["place"] == "queue:mail"
    lines = operator("show", "a").out.splitlines()
    assert lines[0].split() == ["place", "retry"]
    assert "error_message  no\\nway" in lines
    assert "error_backtrace" not in " ".join(lines)
    missing = operator("show", "zzz")
    assert (missing.code, missing.out) == (1, "")
    assert missing.err == "kiqpy: no job zzz among the 2 jobs searched\n"
    assert operator("show", "a", "--place", "dead").code == 1


def test_show_prints_the_stack_that_a_payload_keeps(operator: Operator) -> None:
    """It was base64."""
    operator.put("dead", "a", error_backtrace=pack_lines(["b.py:2:in `deep'", "a.py:1:in `a'"]))
    lines = operator("show", "a").out.splitlines()
    assert [line.split()[-2:] for line in lines[-2:]] == [
        ["b.py:2:in", "`deep'"],
        ["a.py:1:in", "`a'"],
    ]
    assert lines[-2].startswith("error_backtrace  b.py")
    assert operator.json("show", "a")["error_backtrace"] == ["b.py:2:in `deep'", "a.py:1:in `a'"]


def test_jobs_says_why_a_row_is_no_job(operator: Operator) -> None:
    """The reason was in an event only."""
    operator.server.cli("ZADD", "dead", "1", "{not json")
    operator.server.cli("ZADD", "dead", "2", '{"class": "a", "args": 1}')
    said = operator("jobs", "dead").out
    assert "kiqpy.DecodeError: not JSON: " in said
    assert "kiqpy.DecodeError: args is not an array" in said


def test_workers(operator: Operator) -> None:
    assert operator("workers").out == "no processes\n"
    process(operator.server)
    document = operator.json("workers")
    [one] = document["processes"]
    assert (one["ident"], one["queues"], one["rss_kb"]) == (IDENT, ["mail"], 20480)
    assert sorted(one) == [
        "beat_at", "busy", "concurrency", "hostname", "ident", "labels", "pid", "queues", "quiet",
        "rss_kb", "rtt_us", "started_at", "tag", "version",
    ]  # fmt: skip
    [busy] = document["busy"]
    assert (busy["jid"], busy["class"], busy["queue"], busy["ident"]) == (
        "running", "Send", "mail", IDENT,
    )  # fmt: skip
    heads, row, _, busy_heads, busy_row = operator("workers").out.splitlines()
    assert heads.split()[:3] == ["PROCESS", "BUSY", "LIMIT"]
    assert row.split()[:4] == [IDENT, "1", "5", "mail"]
    assert busy_heads.split()[0] == "JID"
    assert busy_row.split()[:4] == ["running", "Send", "[1]", "mail"]
    assert operator.json("show", "running")["place"] == "running"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("jobs", "retries"), "there is no place 'retries'; did you mean 'retry'?"),
        (("jobs", "mail"), "say 'queue:mail'"),
        (("jobs", "queue:a b"), "queue name 'a b'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    operator: Operator, words: tuple[str, ...], message: str
) -> None:
    answer = operator(*words)
    assert (answer.code, answer.out) == (1, "")
    assert message in answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize(
    "words", [("jobs",), ("jobs", "retry", "--page", "0"), ("show",), ("stats", "--days", "-1")]
)
def test_wrong_usage_is_2(operator: Operator, words: tuple[str, ...]) -> None:
    answer = operator(*words)
    assert answer.code == 2
    assert "--help" in answer.err


# -- where the jobs are


SHOP = """
from kiqpy import App, worker

@worker(queue="mail")
async def send(n: int) -> None: ...

jobs = App(queues=["mail"], workers=[send], namespace="shop:", redis_url={url!r})
"""


def test_nothing_says_where_redis_is(operator: Operator, tmp_path: Path) -> None:
    answer = operator("queues", redis=False)
    assert answer.code == 1
    assert "--redis URL or --app MODULE:APP" in answer.err
    assert list(tmp_path.iterdir()) == []  # looking starts no server


def test_a_namespace(operator: Operator) -> None:
    operator.server.cli("SADD", "x:queues", "inner")
    operator.server.cli("SADD", "queues", "outer")
    assert [q["name"] for q in operator.json("queues", "--namespace", "x:")["queues"]] == ["inner"]
    operator.server.cli("DEL", "x:queues")


def test_the_environment(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    operator.put("queue:mail", "a")
    for name in ("REDIS_URL", "KIQPY_REDIS_URL"):
        with monkeypatch.context() as patch:
            patch.setenv(name, operator.server.url)
            assert "mail" in operator("queues", redis=False).out


def test_an_app_and_the_app_of_the_project(clean: TestServer, tmp_path: Path) -> None:
    """In processes of their own, as modules stay imported."""
    (tmp_path / "shop.py").write_text(SHOP.format(url=clean.url))
    code, out, err = kiqpy(tmp_path, "queues", "--app", "shop:jobs", "--json")
    assert (code, err) == (0, "")
    assert [queue["name"] for queue in json.loads(out)["queues"]] == ["mail"]
    (tmp_path / "pyproject.toml").write_text('[tool.kiqpy]\napp = "shop"\n')
    code, out, err = kiqpy(tmp_path, "enqueue", "send", "[7]", "--json")
    assert (code, err) == (0, "")
    assert clean.cli("LLEN", "shop:queue:mail") == 1
    (tmp_path / "shop.py").write_text(SHOP.format(url="redis://127.0.0.1:1"))
    code, out, err = kiqpy(tmp_path, "jobs", "queue:mail", "--json", KIQPY_REDIS_URL=clean.url)
    assert (code, err, json.loads(out)["total"]) == (0, "", 1)  # its namespace, another server
    code, out, err = kiqpy(tmp_path, "jobs", "queue:mail", "--json", "--redis", clean.url)
    assert (code, err, json.loads(out)["total"]) == (0, "", 0)  # only this server
    (tmp_path / "shop.py").write_text(SHOP.format(url=clean.url))
    code, out, err = kiqpy(tmp_path, "enqueue", "sent", "[7]")
    assert code == 1
    assert "did you mean 'send'?" in err
    clean.cli("FLUSHALL")


def test_a_server_that_is_not_there(operator: Operator) -> None:
    answer = operator("queues", "--redis", "redis://127.0.0.1:1/0", redis=False)
    assert answer.code == 1
    assert "check that the server is up and that the URL is right" in answer.err
