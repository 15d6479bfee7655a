"""`kiqpy enqueue | retry | kill | delete | cancel | pause | resume | quiet | stop`."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kiqpy.job import decode
from tests.cli.operator import Operator
from tests.cli.process import ROOT
from tests.cli.test_inspect_commands import IDENT, process
from tests.server import until


def payload(operator: Operator, key: str) -> dict[str, Any]:
    kind = "LRANGE" if key.startswith("queue:") else "ZRANGE"
    found = operator.server.cli(kind, key, 0, 0)
    assert isinstance(found, list)
    return decode(str(found[0]).encode()).payload


def test_enqueue(operator: Operator) -> None:
    document = operator.json("enqueue", "Ruby::Mail", '[7, {"a": null}]', "-q", "mail")
    assert document["state"] == "queued"
    job = payload(operator, "queue:mail")
    assert (job["class"], job["args"], job["jid"]) == (
        "Ruby::Mail", [7, {"a": None}], document["jid"],
    )  # fmt: skip
    answer = operator("enqueue", "Nothing")
    assert answer.out.split()[0] == "queued"
    assert payload(operator, "queue:default")["args"] == []


@pytest.mark.parametrize(
    ("option", "value", "due"),
    [
        ("--in", "60", lambda: time.time() + 60),
        ("--at", "2100-01-31T09:00+00:00", lambda: 4105069200.0),
        ("--at", "2100-01-31T09:00Z", lambda: 4105069200.0),
        ("--at", "4105069200", lambda: 4105069200.0),
    ],
)
def test_enqueue_later(operator: Operator, option: str, value: str, due: Any) -> None:
    assert operator.json("enqueue", "Send", "[1]", option, value)["state"] == "scheduled"
    [_, score] = operator.server.cli("ZRANGE", "schedule", 0, 0, "WITHSCORES")  # type: ignore[misc]
    assert float(score) == pytest.approx(due(), abs=20)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("[7",), 2, "'[7' is not JSON"),
        (("{}",), 2, "not an array: write a JSON array in quotes"),
        (("7",), 2, "not an array"),
        (("[1]", "--in", "-3"), 2, "--in"),
        (("[1]", "--in", "3", "--at", "5"), 2, "not both"),
        (("[1]", "--at", "soon"), 2, "'soon' is not a time"),
        (("[1]", "--at", "2100-01-31T09:00"), 1, "no time zone"),
        (("[1]", "-q", "a b"), 1, "queue name 'a b'"),
        (("[NaN]",), 1, "argument number 1 is nan"),
    ],
)
def test_enqueue_refuses(
    operator: Operator, words: tuple[str, ...], code: int, message: str
) -> None:
    answer = operator("enqueue", "Send", *words)
    assert (answer.code, answer.out) == (code, "")
    assert message in answer.err
    assert operator.server.cli("EXISTS", "queues", "schedule") == 0


WORKERS = """
from kiqpy import App, worker

@worker
async def loud_mail(user: int, *, loud: bool = False) -> None: ...

class Jobs(App):
    workers = [loud_mail]
"""


def test_enqueue_names_a_wrong_keyword(
    operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loud_jobs.py").write_text(WORKERS)
    command = ("enqueue", "loud_mail", "--app", "loud_jobs:Jobs")
    answer = operator(*command, '[1, {"lod": true}]')
    assert answer.code == 1
    assert "loud_mail takes no keyword 'lod'; did you mean 'loud'?" in answer.err
    assert operator(*command, '[1, {"loud": true}]').code == 0
    assert "missing a required argument: 'user'" in operator(*command, "[]").err


def test_jobs_of_a_queue_by_its_bare_name(operator: Operator) -> None:
    operator.put("queue:mail", "a")
    assert operator.json("jobs", "mail") == operator.json("jobs", "queue:mail")
    assert "for a queue say 'queue:nobody'" in operator("jobs", "nobody").err


def test_retry_by_jids(operator: Operator) -> None:
    operator.put("retry", "a", retry_count=3)
    operator.put("dead", "b")
    operator.put("dead", "c")
    document = operator.json("retry", "a", "b")
    assert document == {"done": 2, "gone": 0, "unreadable": 0, "missing": [], "complete": True}
    assert (operator.size("queue:mail"), operator.size("dead")) == (2, 1)
    answer = operator("retry", "c", "nobody")
    assert (answer.code, answer.out) == (1, "retried 1\n")
    assert answer.err == "kiqpy: not found: nobody\n"


def test_retry_all(operator: Operator) -> None:
    for n in range(120):
        operator.put("dead", f"j{n:03}", score=n)
    operator.put_bytes("dead", b"\xff", 1e9)
    refused = operator("retry", "--all", "--place", "dead")
    assert refused.code == 2
    assert "retry all 121 jobs of dead? Confirm with --yes" in refused.err
    assert operator.size("dead") == 121
    answer = operator("retry", "--all", "--place", "dead", "--yes")
    assert (answer.code, answer.out) == (1, "retried 120\n")
    assert answer.err == "kiqpy: 1 of them can't be read as jobs: kill or delete them\n"
    assert (operator.size("queue:mail"), operator.size("dead")) == (120, 1)


def test_retry_poisoned(operator: Operator) -> None:
    operator.put("dead", "other", score=1)
    operator.put("dead", "beside", score=2, recovered=4, error_class="kiqpy.Poison")
    refused = operator("retry", "--poisoned")
    assert refused.code == 2
    assert "retry the poisoned among 2 jobs of dead? Confirm with --yes" in refused.err
    assert operator("retry", "beside", "--poisoned").code == 2
    answer = operator("retry", "--poisoned", "--yes")
    assert (answer.code, answer.out) == (0, "retried 1\n")
    assert (operator.size("queue:mail"), operator.size("dead")) == (1, 1)


@pytest.mark.parametrize(
    ("typed", "code", "left"), [(b"n\n", 1, 2), (b"y\n", 0, 0), (b"\x03", 130, 2)]
)
def test_it_asks_before_it_acts_upon_all(
    operator: Operator, typed: bytes, code: int, left: int
) -> None:
    """On a terminal of its own; the last one is Ctrl-C."""
    operator.put("dead", "a")
    operator.put("dead", "b")
    words = ("delete", "--redis", operator.server.url, "--all", "--place", "dead")
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, *words], stdin=slave, stdout=slave, stderr=slave,
        start_new_session=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        os.close(slave)
        said = read(master, b"delete all 2 jobs of dead? [y/N]")
        stat = Path(f"/proc/{process.pid}/stat")
        until(lambda: " S " in stat.read_text(), "it reads")  # else Python may miss a signal
        for _ in range(5):  # as it may between its last look and the read: one more Ctrl-C, then
            os.write(master, typed)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(4)
                break
        said += read(master)
        assert process.wait(20) == code, said
    os.close(master)
    assert operator.size("dead") == left
    assert (b"nothing was changed" in said) == (typed == b"n\n")


ON_A_TERMINAL = """
import fcntl, sys, termios
from kiqpy.cli import main
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.exit(main())
"""


def read(terminal: int, end: bytes | None = None) -> bytes:
    """What is written there, until this is, or else until the other end is closed."""
    said = b""
    while end is None or end not in said:
        assert select.select([terminal], [], [], 20)[0], said
        try:
            said += os.read(terminal, 1000)
        except OSError:  # how Linux says that the other end is closed
            assert end is None, said
            break
    return said


def test_kill(operator: Operator) -> None:
    operator.put("queue:mail", "a")
    operator.put("queue:mail", "b")
    assert operator("kill", "a").out == "killed 1\n"
    assert payload(operator, "dead")["error_class"] == "kiqpy.Killed"
    assert operator("kill", "--all", "--place", "queue:mail", "-y").code == 0
    assert (operator.size("queue:mail"), operator.size("dead")) == (0, 2)


@pytest.mark.parametrize("unlock", [False, True])
def test_delete(operator: Operator, unlock: bool) -> None:
    operator.put("scheduled", "a", unique_token="T")
    operator.server.cli("SET", "unique:T", "a", "EX", 1000)
    assert operator("delete", "a", *(("--unlock",) if unlock else ())).out == "deleted 1\n"
    assert operator.size("schedule") == 0
    assert operator.server.cli("EXISTS", "unique:T") == int(not unlock)
    assert operator("delete", "a").code == 1


def test_delete_all(operator: Operator) -> None:
    operator.put_bytes("dead", b"\xff")
    operator.put("dead", "a")
    assert operator("delete", "--all", "--place", "dead", "--yes").out == "deleted 2\n"
    assert operator.size("dead") == 0


@pytest.mark.parametrize("forget", [False, True])
def test_cancel(operator: Operator, forget: bool) -> None:
    operator.put("scheduled", "a")
    operator.put("queue:mail", "b")
    process(operator.server)
    words = ("cancel", "a", "b", "running", "later", *(("--forget",) if forget else ()))
    assert operator.json(*words)["cancelled"] == [
        {"jid": "a", "was": "scheduled"}, {"jid": "b", "was": "queued"},
        {"jid": "running", "was": "running"}, {"jid": "later", "was": "marked"},
    ]  # fmt: skip
    assert operator.size("dead") == (0 if forget else 2)
    mark = "-" if forget else "+"
    marks = operator.server.cli("ZRANGE", "kiq:cancels", 0, -1)
    assert marks == [mark + jid for jid in ("a", "b", "running", "later")]
    assert operator("cancel", "later").out == "later  marked\n"


def test_pause_and_resume(operator: Operator) -> None:
    assert operator("pause", "a", "b").out == "a paused\nb paused\n"
    assert operator("pause", "a").out == "a was already paused\n"
    assert sorted(operator.server.cli("SMEMBERS", "paused")) == ["a", "b"]  # type: ignore[arg-type]
    assert operator.json("resume", "a", "c")["queues"] == [
        {"name": "a", "changed": True}, {"name": "c", "changed": False},
    ]  # fmt: skip
    assert operator("resume", "b").out == "b resumed\n"
    assert operator("resume", "b").out == "b was not paused\n"
    assert operator("pause", "a b").code == 1


@pytest.mark.parametrize(("command", "signal"), [("quiet", "TSTP"), ("stop", "TERM")])
def test_quiet_and_stop(operator: Operator, command: str, signal: str) -> None:
    assert operator(command, "--all").code == 1  # there is nobody
    process(operator.server)
    process(operator.server, "host:8:def")
    assert operator(command, IDENT).out == f"sent {signal} to {IDENT}\n"
    assert operator.server.cli("LRANGE", f"{IDENT}-signals", 0, -1) == [signal]
    assert operator.json(command, "--all")["processes"] == [
        {"ident": IDENT, "told": True}, {"ident": "host:8:def", "told": True},
    ]  # fmt: skip
    wrong = operator(command, "host:7:abd")
    assert (wrong.code, wrong.out) == (1, "no process was signalled\n")
    assert wrong.err == f"kiqpy: there is no process host:7:abd; did you mean {IDENT!r}?\n"


def test_a_quiet_is_ended(operator: Operator) -> None:
    process(operator.server)
    assert operator("quiet", "--off", IDENT).out == f"sent CONT to {IDENT}\n"
    assert operator.server.cli("LRANGE", f"{IDENT}-signals", 0, -1) == ["CONT"]


@pytest.mark.parametrize(
    "words",
    [
        ("retry",), ("retry", "a", "--all"), ("delete", "--all"), ("cancel",), ("pause",),
        ("quiet",), ("stop", "x", "--all"), ("kill", "a", "--unlock"),
    ],
)  # fmt: skip
def test_wrong_usage_is_2(operator: Operator, words: tuple[str, ...]) -> None:
    answer = operator(*words)
    assert (answer.code, answer.out) == (2, "")
    assert "--help" in answer.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("retry", "--all", "--place", "queue:mail", "-y"), "in their queue already"),
        (("kill", "--all", "--place", "dead", "-y"), "dead already"),
        (("retry", "a", "--place", "ded"), "did you mean 'dead'?"),
    ],
)
def test_what_makes_no_sense_is_refused(
    operator: Operator, words: tuple[str, ...], message: str
) -> None:
    answer = operator(*words)
    assert (answer.code, answer.out) == (1, "")
    assert message in answer.err


def test_the_documents_are_ascii(operator: Operator) -> None:
    """Whatever is in a job can be written to any terminal and any pipe."""
    operator.put_bytes("dead", b'{"class":"\\ud800","args":["\xc3\xa9"],"jid":"a"}')
    answer = operator("jobs", "dead", "--json")
    assert answer.out.isascii()
    assert json.loads(answer.out)["jobs"][0]["class"] == "\ud800"
    assert operator("jobs", "dead").code == 0
    assert operator("show", "a").code == 0
