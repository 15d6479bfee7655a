"""`kiqpy enqueue | retry | kill | delete | cancel | pause | resume | quiet | stop`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal

import click

from kiqpy.admin import Admin, BulkResult
from kiqpy.app import App
from kiqpy.cli import _output as output
from kiqpy.cli._jobs import job, json_array, moment
from kiqpy.cli._screen import complain
from kiqpy.cli._target import Target, with_target
from kiqpy.errors import suggest

_DONE: Final = {"retry": "retried", "kill": "killed", "delete": "deleted"}
_MAX_JIDS_SHOWN: Final = 20
MoveName = Literal["retry", "kill", "delete"]


@click.command(short_help="enqueue one job")
@click.argument("name", metavar="WORKER")
@click.argument("args", metavar="[ARGS]", default="[]")
@click.option("-q", "--queue", metavar="NAME", help="Use this queue instead of the worker's.")
@click.option(
    "--in", "in_", type=click.FloatRange(min=0), metavar="SECONDS", help="Run it this much later."
)
@click.option("--at", metavar="TIME", help="Run it at 2030-01-31T09:00Z, or at epoch seconds.")
@with_target
def enqueue(
    target: Target, name: str, args: str, queue: str | None, in_: float | None, at: str | None
) -> int:
    """Enqueue a job for WORKER. ARGS is a JSON array: kiqpy enqueue send_welcome '[7]'.

    Without an app, WORKER may be any class name, and its arguments are not checked.
    """
    arguments = json_array(args)
    if in_ is not None and at is not None:
        raise click.UsageError("give --in or --at, not both")
    instant = None if at is None else moment(at)

    async def do(app: App) -> int:
        receipt = await app.enqueue(job(app, name, arguments, queue), in_=in_, at=instant)
        if target.as_json:
            output.show_json({"jid": receipt.jid, "state": receipt.state})
        else:
            output.show(f"{receipt.state} {output.plain(receipt.jid)}")
        return 0 if receipt.state in ("queued", "scheduled") else 1

    return target.run(do)


def _moves(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options of a command that acts on jobs by jid, or on all jobs of a place."""

    @click.argument("jids", nargs=-1, metavar="[JID]...")
    @click.option(
        "--place", metavar="PLACE", help="Where the jobs are: retry, scheduled, dead or queue:NAME."
    )
    @click.option("--all", "everything", is_flag=True, help="Act on all jobs of --place.")
    @click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
    @functools.wraps(command)
    def moving(
        target: Target, jids: tuple[str, ...], place: str | None, everything: bool, **given: Any
    ) -> int:
        if given.get("poisoned") and not (jids or everything):
            place, everything = place or "dead", True
        if everything == bool(jids):
            raise click.UsageError("name jobs by their JIDs, or use --all --place PLACE")
        if everything and place is None:
            raise click.UsageError("--all needs a --place: retry, scheduled, dead or queue:NAME")
        return command(target, jids, place, **given)

    return moving


@click.command(short_help="run retries or dead jobs now")
@click.option(
    "--poisoned",
    is_flag=True,
    help="Move all jobs that are dead because the processes that ran them died.",
)
@with_target
@_moves
def retry(target: Target, jids: Sequence[str], place: str | None, yes: bool, poisoned: bool) -> int:
    """Move jobs of retry, scheduled or dead to their queues now.

    When one job kills its processes again and again, jobs that ran beside it end in the dead set
    with it. Delete the culprit, then bring the others back with --poisoned.
    """
    if poisoned and jids:
        raise click.UsageError("--poisoned finds its jobs by itself: leave the JIDs out")
    given = {"poisoned": True} if poisoned else {}
    return _move(target, "retry", jids, place, yes, **given)


@click.command(short_help="move jobs to the dead set")
@with_target
@_moves
def kill(target: Target, jids: Sequence[str], place: str | None, yes: bool) -> int:
    """Move jobs to the dead set, and free their unique locks."""
    return _move(target, "kill", jids, place, yes)


@click.command(short_help="delete jobs")
@click.option("--unlock", is_flag=True, help="Also free their unique locks.")
@with_target
@_moves
def delete(target: Target, jids: Sequence[str], place: str | None, yes: bool, unlock: bool) -> int:
    """Delete jobs. This can't be undone."""
    return _move(target, "delete", jids, place, yes, unlock=unlock)


def _move(
    target: Target, act: MoveName, jids: Sequence[str], place: str | None, yes: bool, **given: Any
) -> int:
    async def do(app: App) -> BulkResult:
        if jids:
            moved: BulkResult = await getattr(app.admin, act)(list(jids), place, **given)
            return moved
        result: BulkResult = await getattr(app.admin, f"{act}_all")(
            place, **given, progress=_progress(act)
        )
        return result

    which = "poisoned" if given.get("poisoned") else "all"
    if not jids and not yes and not _confirmed(target, act, place or "", which):
        complain("nothing was changed")
        return 1
    return _report(target, act, target.run(do))


def _confirmed(target: Target, act: MoveName, place: str, which: str) -> bool:
    """Ask outside the event loop: a prompt inside it would keep ctrl-c from being handled."""
    count = target.run(lambda app: app.admin.size(place))
    jobs = f"the poisoned among {count:,} jobs" if which == "poisoned" else f"all {count:,} jobs"
    question = f"{act} {jobs} of {place}?"
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Confirm with --yes")
    return click.confirm(question, err=True)


def _progress(act: MoveName) -> Callable[[int, int], None]:
    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done >= total else ""
            click.echo(f"\r{_DONE[act]}: {done:,} of {total:,}{end}", err=True, nl=False)

    return show


def _report(target: Target, act: MoveName, result: BulkResult) -> int:
    if target.as_json:
        output.show_json(output.bulk_document(result))
    else:
        output.show(f"{_DONE[act]} {result.done:,}")
    if result.gone:
        complain(f"{result.gone:,} of them were gone: run, or moved by another process")
    if result.unreadable:
        complain(f"{result.unreadable:,} of them can't be read as jobs: kill or delete them")
    if result.missing:
        jids = " ".join(output.plain(jid) for jid in result.missing[:_MAX_JIDS_SHOWN])
        how = "" if result.complete else "; not all jobs were searched, so name their --place"
        complain(f"not found: {jids}{how}")
    return 1 if result.missing or result.gone or result.unreadable else 0


@click.command(short_help="cancel jobs, running ones too")
@click.argument("jids", nargs=-1, required=True, metavar="JID...")
@click.option("--forget", is_flag=True, help="Delete them instead of keeping them in the dead set.")
@with_target
def cancel(target: Target, jids: tuple[str, ...], forget: bool) -> int:
    """Cancel jobs in any place, running ones too.

    Prints where each job was; `marked` means that it was not found, and will be cancelled when a
    process claims it.
    """

    async def do(app: App) -> int:
        found = {jid: await app.admin.cancel(jid, keep=not forget) for jid in jids}
        if target.as_json:
            output.show_json(
                {"cancelled": [{"jid": jid, "was": was} for jid, was in found.items()]}
            )
        else:
            output.show("\n".join(f"{output.plain(jid)}  {was}" for jid, was in found.items()))
        return 0

    return target.run(do)


@click.command(short_help="pause queues in all processes")
@click.argument("names", nargs=-1, required=True, metavar="QUEUE...")
@with_target
def pause(target: Target, names: tuple[str, ...]) -> int:
    """Pause queues: no process claims their jobs. Running jobs finish."""
    return _switch(target, names, Admin.pause, "paused")


@click.command(short_help="resume paused queues")
@click.argument("names", nargs=-1, required=True, metavar="QUEUE...")
@with_target
def resume(target: Target, names: tuple[str, ...]) -> int:
    """Resume paused queues: processes claim their jobs again."""
    return _switch(target, names, Admin.resume, "resumed")


def _switch(
    target: Target, names: Sequence[str], act: Callable[[Admin, str], Awaitable[bool]], done: str
) -> int:
    async def do(app: App) -> int:
        changed = {name: await act(app.admin, name) for name in names}
        if target.as_json:
            output.show_json({"queues": [{"name": k, "changed": v} for k, v in changed.items()]})
        else:
            same = "was already paused" if done == "paused" else "was not paused"
            texts = [f"{k} {done if v else same}" for k, v in changed.items()]
            output.show("\n".join(texts))
        return 0

    return target.run(do)


@click.command(short_help="make processes stop claiming jobs")
@click.argument("idents", nargs=-1, metavar="[PROCESS]...")
@click.option("--all", "everything", is_flag=True, help="Act on all processes.")
@click.option("--off", is_flag=True, help="Make them claim jobs again.")
@with_target
def quiet(target: Target, idents: tuple[str, ...], everything: bool, off: bool) -> int:
    """Make processes stop claiming jobs at their next heartbeat, or --off: claim them again."""
    return _signal(target, idents, everything, "CONT" if off else "TSTP")


@click.command(short_help="stop processes")
@click.argument("idents", nargs=-1, metavar="[PROCESS]...")
@click.option("--all", "everything", is_flag=True, help="Act on all processes.")
@with_target
def stop(target: Target, idents: tuple[str, ...], everything: bool) -> int:
    """Stop processes at their next heartbeat; running jobs get their time to finish."""
    return _signal(target, idents, everything, "TERM")


def _signal(target: Target, idents: Sequence[str], everything: bool, name: str) -> int:
    if everything == bool(idents):
        raise click.UsageError("name processes as `kiqpy workers` lists them, or use --all")

    async def do(app: App) -> int:
        known = [process.ident for process in await app.admin.processes()]
        found = {ident: await app.admin.signal(ident, name) for ident in idents or known}
        if target.as_json:
            output.show_json({"processes": [{"ident": k, "told": v} for k, v in found.items()]})
        else:
            lines = [f"sent {name} to {ident}" for ident, exists in found.items() if exists]
            output.show("\n".join(lines) or "no process was signalled")
        for ident in (ident for ident, exists in found.items() if not exists):
            hint = suggest(ident, known)
            complain(f"there is no process {output.plain(ident)}{hint and '; ' + hint}")
        return 0 if found and all(found.values()) else 1

    return target.run(do)
