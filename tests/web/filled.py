"""A store with something on every page; and one with more than any page should read."""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.server import TestServer

TRACE = [
    'File "/app/shop/mail.py", line 41, in perform',
    "    await smtp.send(message)",
    'File "/app/shop/smtp.py", line 17, in send',
    "    raise ConnectionRefusedError(errno, text)",
]


def packed(lines: list[str]) -> str:
    return base64.b64encode(zlib.compress(json.dumps(lines).encode())).decode()


def payload(jid: str, **fields: Any) -> bytes:
    now = time.time()
    job = {
        "class": "Mailer.Welcome", "args": [7, {"to": "ann@example.org"}], "jid": jid,
        "queue": "mail", "retry": True, "created_at": now - 4000, "enqueued_at": now - 3900,
        **fields,
    }  # fmt: skip
    return json.dumps(job).encode()


def failed(jid: str, **fields: Any) -> bytes:
    now = time.time()
    given = {
        "error_class": "ConnectionRefusedError", "error_message": "[Errno 111] refused by smtp:25",
        "error_backtrace": packed(TRACE), "failed_at": now - 3000, "retried_at": now - 600,
        "retry_count": 3, **fields,
    }  # fmt: skip
    return payload(jid, **given)


def put(server: TestServer, place: str, *members: bytes, score: float | None = None) -> None:
    now = time.time()
    if place.startswith("queue:"):
        server.cli("SADD", "queues", place.removeprefix("queue:"))
        server.cli("LPUSH", place, *members)
        return
    begin = {"schedule": now + 300, "retry": now + 60, "dead": now - 86_400}[place]
    first = begin if score is None else score
    pairs = [word for n, member in enumerate(members) for word in (first + 97.5 * n, member)]
    server.cli("ZADD", place, *pairs)


def put_process(server: TestServer, ident: str, work: Mapping[str, bytes], **info: Any) -> None:
    now = time.time()
    told = {
        "hostname": ident.split(":")[0], "pid": 7, "started_at": now - 7900, "queues": ["mail"],
        "concurrency": 25, "tag": "shop", "labels": [], **info,
    }  # fmt: skip
    fields = {
        "info": json.dumps(told), "busy": len(work), "beat": now - 2, "quiet": "false",
        "rss": 65_536, "rtt_us": 210,
    }  # fmt: skip
    server.cli("SADD", "processes", ident)
    server.cli("HSET", ident, *(word for pair in fields.items() for word in pair))
    server.cli("EXPIRE", ident, 600)
    for task, raw in work.items():
        running = {"queue": "mail", "payload": raw.decode(), "run_at": int(now) - 30}
        server.cli("HSET", f"{ident}:work", task, json.dumps(running))
        server.cli("EXPIRE", f"{ident}:work", 600)


def put_days(server: TestServer, days: int = 90) -> None:
    today = datetime.now(UTC).date()
    for n in range(days):
        date = (today - timedelta(days=n)).isoformat()
        weekend = (today - timedelta(days=n)).weekday() >= 5
        processed = (9_000 if weekend else 21_000) + 137 * (n * 7919 % 53)
        server.cli("SET", f"stat:processed:{date}", processed)
        server.cli("SET", f"stat:failed:{date}", 3000 if n == 40 else 90 + 31 * (n * 31 % 11))
    for name, value in (("processed", 1_834_211), ("failed", 21_337)):
        server.cli("SET", f"stat:{name}", value)
        server.cli("SET", f"stat:{name}:mail", value // 2)


def fill(server: TestServer) -> None:
    """Some of everything."""
    put_days(server)
    classes = ("Mailer.Welcome", "Report.Monthly", "Sync.Stock", "Image.Resize")
    for n in range(60):
        put(server, "queue:mail", payload(f"q{n:03}", **{"class": classes[n % 3]}))
    put(server, "queue:reports", payload("rep1", queue="reports", **{"class": "Report.Monthly"}))
    for name in ("default", "images", "low:eu-1"):
        server.cli("SADD", "queues", name)
    server.cli("SADD", "paused", "reports")
    scheduled = [payload(f"s{n}", tags=["eu"], **{"class": classes[n % 4]}) for n in range(9)]
    put(server, "schedule", *scheduled)
    put(server, "retry", *[failed(f"r{n}", retry_count=n) for n in range(12)])
    dead = [failed(f"d{n:03}", retry_count=25, **{"class": classes[n % 4]}) for n in range(130)]
    put(server, "dead", *dead)
    put(server, "dead", b"\xff\xfe not a job", score=time.time() - 90_000)
    put_process(server, "web-1:7:abc", {"t1": payload("run1"), "t2": payload("run2")})
    put_process(server, "web-2:9:def", {}, labels=["canary"], queues=["mail", "reports"])
    server.cli("HSET", "web-2:9:def", "quiet", "true")


def fill_full(server: TestServer, dead: int = 100_000, queues: int = 1000) -> None:
    """Many of some."""
    now = time.time()
    one = failed("d000000")
    for begin in range(0, dead, 1000):
        words: list[float | bytes] = []
        for n in range(begin, min(dead, begin + 1000)):
            words += [now - 8_000_000 + 60 * n, one.replace(b"d000000", b"d%06d" % n)]
        server.cli("ZADD", "dead", *words)
    for n in range(queues):
        put(server, f"queue:q{n:04}", payload(f"in{n}", queue=f"q{n:04}"))
