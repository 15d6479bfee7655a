"""`kiqpy enqueue | retry | kill | delete | cancel | pause | resume | quiet | stop`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal

import click

from kiqpy.admin import Admin, BulkResult
from kiqpy.app import App
from kiqpy.cli import _table as to
from kiqpy.cli._jobs import job, json_array, moment
from kiqpy.cli._reach import Reach, reaches
from kiqpy.cli._screen import complain
from kiqpy.errors import suggest

_DONE: Final = {"retry": "retried", "kill": "killed", "delete": "deleted"}
Move = Literal["retry", "kill", "delete"]


@click.command(short_help="enqueue one job")
@click.argument("name", metavar="WORKER")
@click.argument("args", metavar="[ARGS]", default="[]")
@click.option("-q", "--queue", metavar="NAME", help="Instead of the worker's own.")
@click.option("--in", "in_", type=click.FloatRange(min=0), metavar="SECONDS", help="Not before.")
@click.option("--at", metavar="INSTANT", help="Not before: 2030-01-31T09:00Z, or epoch seconds.")
@reaches
def enqueue(
    reach: Reach, name: str, args: str, queue: str | None, in_: float | None, at: str | None
) -> int:
    """Enqueue a job of WORKER with ARGS, a JSON array: kiqpy enqueue send_welcome '[7]'.

    Without an app, WORKER is any class name, and nothing is checked.
    """
    wanted = json_array(args)
    if in_ is not None and at is not None:
        raise click.UsageError("give --in or --at, not both")
    instant = None if at is None else moment(at)

    async def do(app: App) -> int:
        receipt = await app.enqueue(job(app, name, wanted, queue), in_=in_, at=instant)
        if reach.as_json:
            to.show_json({"jid": receipt.jid, "state": receipt.state})
        else:
            to.show(f"{receipt.state} {to.plain(receipt.jid)}")
        return 0 if receipt.state in ("queued", "scheduled") else 1

    return reach.run(do)


def _moves(command: Callable[..., int]) -> Callable[..., int]:
    """The options of commands that take jids, or all of a place."""

    @click.argument("jids", nargs=-1, metavar="[JID]...")
    @click.option("--place", metavar="PLACE", help="retry, scheduled, dead or queue:NAME.")
    @click.option("--all", "everything", is_flag=True, help="All jobs of --place.")
    @click.option("-y", "--yes", is_flag=True, help="Do not ask.")
    @functools.wraps(command)
    def moving(
        reach: Reach, jids: tuple[str, ...], place: str | None, everything: bool, **given: Any
    ) -> int:
        if everything == bool(jids):
            raise click.UsageError("name jobs by their JIDs, or say --all --place PLACE")
        if everything and place is None:
            raise click.UsageError("--all of which --place? retry, scheduled, dead or queue:NAME")
        return command(reach, jids, place, **given)

    return moving


@click.command(short_help="run retries or dead jobs now")
@reaches
@_moves
def retry(reach: Reach, jids: Sequence[str], place: str | None, yes: bool) -> int:
    """Put jobs of retry, scheduled or dead into their queues now."""
    return _move(reach, "retry", jids, place, yes)


@click.command(short_help="move jobs to the dead set")
@reaches
@_moves
def kill(reach: Reach, jids: Sequence[str], place: str | None, yes: bool) -> int:
    """Move jobs to the dead set; their unique locks are freed."""
    return _move(reach, "kill", jids, place, yes)


@click.command(short_help="forget jobs")
@click.option("--unlock", is_flag=True, help="Free their unique locks, too.")
@reaches
@_moves
def delete(reach: Reach, jids: Sequence[str], place: str | None, yes: bool, unlock: bool) -> int:
    """Forget jobs for good."""
    return _move(reach, "delete", jids, place, yes, unlock=unlock)


def _move(
    reach: Reach, act: Move, jids: Sequence[str], place: str | None, yes: bool, **given: Any
) -> int:
    async def do(app: App) -> BulkResult:
        if jids:
            acted: BulkResult = await getattr(app.admin, act)(list(jids), place, **given)
            return acted
        result: BulkResult = await getattr(app.admin, f"{act}_all")(
            place, **given, progress=_progress(act)
        )
        return result

    if not jids and not yes and not _agreed(reach, act, place or ""):
        complain("nothing was done")
        return 1
    return _tell(reach, act, reach.run(do))


def _agreed(reach: Reach, act: Move, place: str) -> bool:
    """Ask, outside the event loop: a signal would not get through to whoever waits in it."""
    count = reach.run(lambda app: app.admin.size(place))
    if not sys.stdin.isatty():
        raise click.UsageError(f"{act} all {count:,} jobs of {place}? Say --yes")
    return click.confirm(f"{act} all {count:,} jobs of {place}?", err=True)


def _progress(act: Move) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done >= total else ""
            click.echo(f"\r{_DONE[act]}: {done:,} of {total:,}{end}", err=True, nl=False)

    return tell


def _tell(reach: Reach, act: Move, acted: BulkResult) -> int:
    if reach.as_json:
        to.show_json(to.acted_document(acted))
    else:
        to.show(f"{_DONE[act]} {acted.done:,}")
    if acted.gone:
        complain(f"{acted.gone:,} were gone: run, or moved by somebody else")
    if acted.unreadable:
        complain(f"{acted.unreadable:,} can't be read, and stay: kill or delete them")
    if acted.missing:
        jids = " ".join(to.plain(jid) for jid in acted.missing[:20])
        how = "" if acted.complete else "; the search gave up, name the --place"
        complain(f"not found: {jids}{how}")
    return 1 if acted.missing or acted.gone or acted.unreadable else 0


@click.command(short_help="see to it that jobs do not run, or stop")
@click.argument("jids", nargs=-1, required=True, metavar="JID...")
@click.option("--forget", is_flag=True, help="Do not keep them in the dead set.")
@reaches
def cancel(reach: Reach, jids: tuple[str, ...], forget: bool) -> int:
    """Cancel jobs wherever they are, running ones too.

    marked: not found, but stopped as soon as it is claimed.
    """

    async def do(app: App) -> int:
        found = {jid: await app.admin.cancel(jid, keep=not forget) for jid in jids}
        if reach.as_json:
            to.show_json({"cancelled": [{"jid": jid, "was": was} for jid, was in found.items()]})
        else:
            to.show("\n".join(f"{to.plain(jid)}  {was}" for jid, was in found.items()))
        return 0

    return reach.run(do)


@click.command(short_help="let no process claim jobs of a queue")
@click.argument("names", nargs=-1, required=True, metavar="QUEUE...")
@reaches
def pause(reach: Reach, names: tuple[str, ...]) -> int:
    """Pause queues in the whole cluster; what runs ends in its own time."""
    return _switch(reach, names, Admin.pause, "paused")


@click.command(short_help="end a pause")
@click.argument("names", nargs=-1, required=True, metavar="QUEUE...")
@reaches
def resume(reach: Reach, names: tuple[str, ...]) -> int:
    """Let jobs of paused queues be claimed again."""
    return _switch(reach, names, Admin.resume, "resumed")


def _switch(
    reach: Reach, names: Sequence[str], act: Callable[[Admin, str], Awaitable[bool]], done: str
) -> int:
    async def do(app: App) -> int:
        changed = {name: await act(app.admin, name) for name in names}
        if reach.as_json:
            to.show_json({"queues": [{"name": k, "changed": v} for k, v in changed.items()]})
        else:
            same = "was already paused" if done == "paused" else "was not paused"
            texts = [f"{k} {done if v else same}" for k, v in changed.items()]
            to.show("\n".join(texts))
        return 0

    return reach.run(do)


@click.command(short_help="let processes claim no more jobs")
@click.argument("idents", nargs=-1, metavar="[PROCESS]...")
@click.option("--all", "everything", is_flag=True, help="All processes.")
@reaches
def quiet(reach: Reach, idents: tuple[str, ...], everything: bool) -> int:
    """Tell processes to claim no more jobs; heard at their next heartbeat."""
    return _signal(reach, idents, everything, "TSTP")


@click.command(short_help="let processes end")
@click.argument("idents", nargs=-1, metavar="[PROCESS]...")
@click.option("--all", "everything", is_flag=True, help="All processes.")
@reaches
def stop(reach: Reach, idents: tuple[str, ...], everything: bool) -> int:
    """Tell processes to stop in their own time; heard at their next heartbeat."""
    return _signal(reach, idents, everything, "TERM")


def _signal(reach: Reach, idents: Sequence[str], everything: bool, name: str) -> int:
    if everything == bool(idents):
        raise click.UsageError("name processes as `kiqpy workers` shows them, or say --all")

    async def do(app: App) -> int:
        known = [process.ident for process in await app.admin.processes()]
        told = {ident: await app.admin.signal(ident, name) for ident in idents or known}
        if reach.as_json:
            to.show_json({"processes": [{"ident": k, "told": v} for k, v in told.items()]})
        else:
            to.show("\n".join(f"told {k}" for k, v in told.items() if v) or "nobody was told")
        for ident in (ident for ident, heard in told.items() if not heard):
            hint = suggest(ident, known)
            complain(f"no process {to.plain(ident)}{hint and '; ' + hint}")
        return 0 if told and all(told.values()) else 1

    return reach.run(do)
