"""`kiqpy top`, driven by keys: each does what the help says, seen in Redis afterwards."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

textual = pytest.importorskip("textual", reason="the extra tui is not installed")

from textual.pilot import Pilot  # noqa: E402
from textual.widgets import DataTable, Static  # noqa: E402

from kiqpy import App, Job, worker  # noqa: E402
from kiqpy.admin import Admin  # noqa: E402
from kiqpy.tui import Top  # noqa: E402
from kiqpy.tui._views import VIEWS  # noqa: E402
from tests.eventually import eventually  # noqa: E402
from tests.server import TestServer, until  # noqa: E402

pytestmark = pytest.mark.anyio
HOSTILE = "[bold red]x[/] \x1b[31m <b>\n\t"


@worker
async def waits(_text: str = "") -> None: ...


@worker(retry=0)
async def dies() -> None:
    raise ValueError(HOSTILE)


class Jobs(App):
    queues = {"default": 5}
    workers = (waits, dies)


@asynccontextmanager
async def top(
    admin: Admin, view: str, *, read_only: bool = False
) -> AsyncIterator[tuple[Top, Pilot[None]]]:
    """The program at one of its tabs."""
    program = Top(admin, interval_s=3600, read_only=read_only)
    async with program.run_test(size=(160, 40)) as pilot:
        while program.view.title != view:
            await pilot.press("right")
        await pilot.pause()
        yield program, pilot


def rows(program: Top) -> list[list[str]]:
    table = program.query_one(DataTable)
    return [[str(cell) for cell in table.get_row_at(n)] for n in range(table.row_count)]


def said(program: Top) -> str:
    return str(program.query_one("#said", Static).content)


@pytest.fixture
async def jobs(clean: TestServer) -> AsyncIterator[App]:
    app = Jobs(redis_url=clean.url)
    async with app.client_only():
        yield app


async def scheduled(jobs: App, count: int) -> None:
    for n in range(count):
        await jobs.enqueue(waits.new(f"number {n:02}"), in_=3600 + n)


async def test_left_and_right_go_through_all_tabs(jobs: App) -> None:
    async with top(jobs.admin, "Home") as (program, pilot):
        seen = []
        for _ in VIEWS:
            seen.append(program.view.title)
            await pilot.press("right")
        assert seen == [view.title for view in VIEWS]
        assert program.view.title == "Home"
        await pilot.press("left")
        assert program.view.title == "Processes"


async def test_home_shows_totals(jobs: App) -> None:
    await scheduled(jobs, 3)
    async with top(jobs.admin, "Home") as (program, _):
        assert ["", "scheduled", "3"] in rows(program)


async def test_j_and_k_move_and_h_and_l_turn_pages(jobs: App) -> None:
    await scheduled(jobs, 30)
    async with top(jobs.admin, "Scheduled") as (program, pilot):
        table = program.query_one(DataTable)
        await pilot.press("j", "j", "k")
        assert table.cursor_row == 1
        assert len(rows(program)) == 25
        assert "30 in all, page 1 of 2" in said(program)
        await pilot.press("l", "l")
        assert len(rows(program)) == 5
        await pilot.press("h")
        assert len(rows(program)) == 25


async def test_a_capital_acts_on_the_line_of_the_cursor(jobs: App) -> None:
    await scheduled(jobs, 3)
    async with top(jobs.admin, "Scheduled") as (program, pilot):
        await pilot.press("j", "D")
        assert said(program).startswith("1 deleted")
    left = [row.args for row in (await jobs.admin.jobs("scheduled")).rows]
    assert left == [["number 00"], ["number 02"]]


async def test_a_capital_acts_on_what_was_chosen(jobs: App) -> None:
    await scheduled(jobs, 4)
    async with top(jobs.admin, "Scheduled") as (program, pilot):
        await pilot.press("x", "j", "x")
        assert "2 chosen" in said(program)
        await pilot.press("R")
        assert said(program).startswith("2 put into their queues")
    assert await jobs.admin.size("queue:default") == 2
    assert [row.args for row in (await jobs.admin.jobs("scheduled")).rows] == [
        ["number 01"],
        ["number 03"],
    ]


async def test_a_small_letter_changes_nothing(jobs: App) -> None:
    await scheduled(jobs, 1)
    async with top(jobs.admin, "Scheduled") as (_, pilot):
        await pilot.press("d", "r", "p", "s", "c")
    assert await jobs.admin.size("scheduled") == 1


async def test_slash_shows_what_holds_a_text_and_escape_all(jobs: App) -> None:
    await scheduled(jobs, 12)
    async with top(jobs.admin, "Scheduled") as (program, pilot):
        await pilot.press("slash", *"number", "space", *"07", "enter")
        assert [row[5] for row in rows(program)] == ['["number 07"]']
        assert "that hold 'number 07'" in said(program)
        await pilot.press("escape")
        assert len(rows(program)) == 12


async def test_a_capital_in_the_filter_is_a_letter(jobs: App) -> None:
    await scheduled(jobs, 1)
    async with top(jobs.admin, "Scheduled") as (_, pilot):
        await pilot.press("slash", "D", "enter")
    assert await jobs.admin.size("scheduled") == 1


async def test_retries_can_be_killed_and_the_dead_run_again(jobs: App, clean: TestServer) -> None:
    await jobs.enqueue(Job("waits", ["x"], jid="a" * 24), in_=3600)
    [row] = (await jobs.admin.jobs("scheduled")).rows
    clean.cli("ZADD", "retry", "99999999999", row.raw.decode())
    clean.cli("DEL", "schedule")
    async with top(jobs.admin, "Retries") as (program, pilot):
        await pilot.press("K")
        assert said(program).startswith("1 killed")
        await pilot.press("right")
        assert program.view.title == "Dead"
        assert len(rows(program)) == 1
        await pilot.press("R")
        assert said(program).startswith("1 put into their queues")
    assert await jobs.admin.size("queue:default") == 1


async def test_a_queue_is_paused_resumed_and_emptied(jobs: App) -> None:
    await jobs.enqueue_many([waits.new("a"), waits.new("b")])
    async with top(jobs.admin, "Queues") as (program, pilot):
        await pilot.press("P")
        assert await jobs.admin.paused() == ["default"]
        assert rows(program)[0][4] == "paused"
        await pilot.press("P")
        assert await jobs.admin.paused() == []
        await pilot.press("D")
        assert said(program).startswith("2 jobs deleted")
    assert await jobs.admin.size("queue:default") == 0


async def test_processes_and_what_they_run(clean: TestServer) -> None:
    app = Jobs(redis_url=clean.url, heartbeat_interval=0.1)
    async with app:
        async with top(app.admin, "Processes") as (program, pilot):
            assert app.store.ident in rows(program)[0][1]
            await pilot.press("Q")
            assert said(program).startswith("1 told to be quiet")
        [process] = await app.admin.processes()

        async def is_quiet() -> bool:
            return (await app.admin.processes())[0].quiet

        await eventually(is_quiet, "quiet")
        assert process.ident == app.store.ident


async def test_read_only_changes_nothing(jobs: App) -> None:
    await scheduled(jobs, 1)
    async with top(jobs.admin, "Scheduled", read_only=True) as (program, pilot):
        await pilot.press("D")
        assert said(program) == "read-only: nothing is changed"
    assert await jobs.admin.size("scheduled") == 1


async def test_enter_shows_all_about_a_job(jobs: App) -> None:
    await scheduled(jobs, 1)
    async with top(jobs.admin, "Scheduled") as (program, pilot):
        await pilot.press("enter")
        await pilot.pause()
        text = str(program.screen.query_one("#text", Static).content)
        assert '"class": "waits"' in text
        await pilot.press("D")  # of no view: the text is before it
        await pilot.press("escape")
        assert len(program.screen_stack) == 1
    assert await jobs.admin.size("scheduled") == 1


@pytest.mark.parametrize("view", [view.title for view in VIEWS])
async def test_help_names_every_key_of_the_tab(jobs: App, view: str) -> None:
    async with top(jobs.admin, view) as (program, pilot):
        await pilot.press("question_mark")
        await pilot.pause()
        text = str(program.screen.query_one("#text", Static).content)
        for key, action in program.view.actions.items():
            assert f"{key}   {action.text}" in text
        for key in ("left, right", "j, k", "h, l", "x ", "/ ", "enter", "q "):
            assert key in text


async def test_what_a_job_holds_is_shown_as_text(clean: TestServer) -> None:
    app = Jobs(redis_url=clean.url)
    async with app:
        await app.enqueue(dies.new())
        await app.enqueue(waits.new(HOSTILE), in_=3600)

        async def is_dead() -> bool:
            return await app.admin.size("dead") == 1

        await eventually(is_dead, "a dead job")
        async with top(app.admin, "Dead") as (program, _):
            [row] = rows(program)
            assert "[bold red]x[/]" in row[6]
            assert "\x1b" not in "".join(row)
            assert "\n" not in "".join(row)


async def test_a_server_that_has_gone_is_said_and_nothing_ends() -> None:
    with TestServer() as server:
        app = Jobs(redis_url=server.url)
        async with app.client_only():
            await scheduled(app, 1)
            async with top(app.admin, "Scheduled") as (program, pilot):
                server.kill()
                await pilot.press("D")
                assert said(program).startswith("no answer: ")
                await pilot.press("right")
                assert program.view.title == "Retries"


def test_it_needs_a_terminal(clean: TestServer) -> None:
    command = [sys.executable, "-m", "kiqpy", "top", "--redis", clean.url]
    found = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert found.returncode == 1
    assert "needs a terminal" in found.stderr


def test_it_runs_in_a_terminal_until_q(clean: TestServer, tmp_path: Path) -> None:
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))
    command = [sys.executable, "-m", "kiqpy", "top", "--redis", clean.url]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdin=side,
        stdout=side,
        stderr=side,
        env=os.environ | {"TERM": "xterm-256color"},
    )
    os.close(side)
    os.set_blocking(main, False)
    seen = b""

    def shows() -> bool:
        nonlocal seen
        with suppress(OSError):  # nothing to read now; or the other side is closed
            seen += os.read(main, 65536)
        return b"Retries" in seen

    def ended() -> bool:
        shows()
        return process.poll() is not None

    try:
        until(shows, "the tabs", 60)
        os.write(main, b"q")
        until(ended, "the end", 60)
    finally:
        process.kill()
        process.wait()
        os.close(main)
    assert process.returncode == 0, seen
