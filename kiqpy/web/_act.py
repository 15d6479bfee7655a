"""What a button does: admitted, asked for once more where it can't be undone, done, logged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from kiqpy.admin import Admin, BulkResult, JobRow
from kiqpy.observe._sinks import log_writer
from kiqpy.web import _format as to
from kiqpy.web._actions import ACTIONS, Button, counted
from kiqpy.web._guard import Refused, refuse_foreign
from kiqpy.web._look import searched_fields
from kiqpy.web._query import Form, with_notice
from kiqpy.web._site import Site

_MAX_SECONDS: Final = 20.0  # one request acts so long; then it says that there are more
_MAX_COUNTED: Final = 100_000  # entries looked at to count what matches
_MAX_WALKED: Final = 200_000  # of a queue, to find what was selected
_STEP: Final = 100
_MAX_LOGGED: Final = 20  # jids in a line of the audit log


class ActionOutcome(NamedTuple):
    """What has come of an action."""

    done: int = 0
    gone: int = 0
    unreadable: int = 0
    left: bool = False
    jids: Sequence[str] = ()

    def plus(self, result: BulkResult) -> ActionOutcome:
        return self._replace(
            done=self.done + result.done,
            gone=self.gone + result.gone + len(result.missing),
            unreadable=self.unreadable + result.unreadable,
        )


class Question(NamedTuple):
    """What is asked before something that can't be undone."""

    text: str
    counted: int


async def act(site: Site, request: Request) -> Response:
    """Do what a form says and lead back to where it was."""
    refuse_foreign(request)
    form = await Form.read(request)
    action = ACTIONS.get(form.do)
    if action is None:
        raise Refused(400, f"There is no action {to.clip(form.do, 40)!r}.")
    user = await site.guard.admit_action(request, action.name)
    if not form.confirmed and (action.asks or form.scope):
        return await _ask(site, request, action, form)
    try:
        outcome = await _do(site, action, form)
    except Exception as error:
        _log(request, user, action, form, error=f"{type(error).__name__}: {error}")
        raise
    finally:
        site.numbers.expire()
    _log(request, user, action, form, done=outcome.done, gone=outcome.gone, jids=outcome.jids)
    return _lead_back(form, action, outcome)


def _lead_back(form: Form, action: Button, outcome: ActionOutcome) -> Response:
    back = with_notice(
        form.back,
        did=action.name,
        done=outcome.done,
        gone=outcome.gone or None,
        unreadable=outcome.unreadable or None,
        left=1 if outcome.left else None,
    )
    return RedirectResponse(back, 303)


def _log(request: Request, user: str, action: Button, form: Form, **more: object) -> None:
    fields: dict[str, object] = {
        "action": action.name,
        "user": user,
        "client": request.client.host if request.client else "",
        "place": form.place,
        "scope": form.scope or "selected",
        "target": form.target,
        "text": form.text,
        **more,
    }
    # What is empty is left out; no value of a form can begin a line of its own.
    said = {name: _printable(value) for name, value in fields.items() if value not in ("", ())}
    log_writer().write("info", "web.action", said)


def _printable(value: object) -> object:
    return ascii(value)[1:-1] if isinstance(value, str) and not value.isprintable() else value


# -- to ask


async def _ask(site: Site, request: Request, action: Button, form: Form) -> Response:
    question = await _question(site, action, form)
    return await site.render(
        request, "confirm.html", action=action, form=form, question=question, back=form.back
    )


async def _question(site: Site, action: Button, form: Form) -> Question:
    verb = action.label
    if action.kind == "process" and form.scope == "all":
        count = len(await site.admin.processes())
        return Question(f"{verb} all {count:,} processes?", count)
    if action.kind != "jobs":
        size = await site.admin.size(f"queue:{form.target}") if action.kind == "queue" else 0
        holding = f" with {counted(size)}" if size else ""
        return Question(f"{verb}: {to.clip(form.target, 200)}{holding}?", size)
    if form.scope == "all":
        count = await site.admin.size(form.place)
        return Question(f"{verb}: all {counted(count)} of {_place_words(form.place)}?", count)
    if form.scope == "match":
        return await _question_of_match(site, action, form)
    return Question(f"{verb}: {counted(len(form.tokens))} that you selected?", len(form.tokens))


async def _question_of_match(site: Site, action: Button, form: Form) -> Question:
    found = await site.admin.search(
        form.place,
        _text(form),
        fields=searched_fields(site, form.field),
        limit=_MAX_COUNTED,
        most=_MAX_COUNTED,
    )
    count = len(found.rows)
    whole = "" if found.cursor is None else f", among the first {found.searched:,} looked at"
    words = f"whose {form.field} holds" if form.field else "that hold"
    where = _place_words(form.place)
    text = f"{action.label}: {counted(count)} of {where} {words} “{form.text}”{whole}?"
    return Question(text, count)


def _place_words(place: str) -> str:
    words = {"retry": "the retries", "scheduled": "the schedule", "dead": "the dead set"}
    return words.get(place) or f"the queue {to.clip(place.removeprefix('queue:'), 128)}"


def _text(form: Form) -> str:
    if not form.text:
        raise Refused(400, "Which jobs? The filter is empty.")
    return form.text


# -- to do


class _ActOnRows(Protocol):
    def __call__(self, jobs: Sequence[JobRow]) -> Awaitable[BulkResult]: ...


class _ActOnAll(Protocol):
    def __call__(
        self, place: str, *, progress: Callable[[int, int], object]
    ) -> Awaitable[BulkResult]: ...


def _on_rows(admin: Admin) -> Mapping[str, _ActOnRows]:
    return {
        "retry": admin.retry,
        "requeue": admin.requeue,
        "kill": admin.kill,
        "delete": admin.delete,
    }


def _on_all(admin: Admin) -> Mapping[str, _ActOnAll]:
    return {
        "retry": admin.retry_all,
        "requeue": admin.requeue_all,
        "kill": admin.kill_all,
        "delete": admin.delete_all,
    }


async def _do(site: Site, action: Button, form: Form) -> ActionOutcome:
    match action.kind:
        case "jobs" if action.name == "cancel":
            return await _cancel(site.admin, form)
        case "jobs" if form.scope == "all":
            return await _do_all(site.admin, action, form)
        case "jobs" if form.scope == "match":
            return await _do_matching(site, action, form)
        case "jobs":
            return await _do_selected(site.admin, action, form)
        case "queue":
            return await _do_to_queue(site.admin, action, form)
        case "process":
            return await _do_to_processes(site.admin, action, form)
        case "periodic":
            return await _do_to_periodic(site, action, form)


async def _do_selected(admin: Admin, action: Button, form: Form) -> ActionOutcome:
    tokens = list(dict.fromkeys(form.tokens))
    if not tokens:
        raise Refused(400, "No job was selected. Go back and tick the boxes of some.")
    rows = await admin.locate(form.place, tokens, most=_MAX_WALKED)
    result = await _on_rows(admin)[action.name](rows)
    lost = len(tokens) - len(rows)
    return ActionOutcome(gone=lost, jids=_jids(rows)).plus(result)


def _jids(rows: Sequence[JobRow]) -> Sequence[str]:
    return [to.clip(row.jid, 100) for row in rows[:_MAX_LOGGED]]


async def _do_all(admin: Admin, action: Button, form: Form) -> ActionOutcome:
    """All that are there, as far as the time goes."""
    looked = 0

    def progress(so_far: int, _total: int) -> None:
        nonlocal looked
        looked = so_far

    try:
        async with asyncio.timeout(_MAX_SECONDS):
            result = await _on_all(admin)[action.name](form.place, progress=progress)
    except TimeoutError:
        return ActionOutcome(done=looked, left=True)
    return ActionOutcome().plus(result)


async def _do_matching(site: Site, action: Button, form: Form) -> ActionOutcome:
    """What matches, and no more than were counted before."""
    deadline, outcome = site.clock.monotonic() + _MAX_SECONDS, ActionOutcome()
    left, searched, cursor = form.counted, 0, ""
    while left > 0 and searched < _MAX_COUNTED:
        found = await site.admin.search(
            form.place,
            _text(form),
            fields=searched_fields(site, form.field),
            cursor=cursor,
            limit=_STEP,
            most=_MAX_COUNTED - searched,
        )
        rows = found.rows[:left]
        outcome = outcome.plus(await _on_rows(site.admin)[action.name](rows))
        outcome = outcome._replace(jids=[*outcome.jids, *_jids(rows)][:_MAX_LOGGED])
        left, searched = left - len(rows), searched + found.searched
        if found.cursor is None:
            break
        if site.clock.monotonic() > deadline:
            return outcome._replace(left=True)
        cursor = found.cursor
    return outcome


async def _cancel(admin: Admin, form: Form) -> ActionOutcome:
    jids = [jid for token in form.tokens if (jid := token.split("/", 2)[-1])]
    if not jids:
        raise Refused(400, "No job was selected. Go back and tick the boxes of some.")
    for jid in jids:
        await admin.cancel(jid, most=_STEP)
    return ActionOutcome(done=len(jids), jids=jids[:_MAX_LOGGED])


async def _do_to_queue(admin: Admin, action: Button, form: Form) -> ActionOutcome:
    match action.name:
        case "pause":
            return ActionOutcome(int(await admin.pause(form.target)))
        case "resume":
            return ActionOutcome(int(await admin.resume(form.target)))
        case _:
            return ActionOutcome(await admin.clear(f"queue:{form.target}"))


async def _do_to_processes(admin: Admin, action: Button, form: Form) -> ActionOutcome:
    idents = [form.target]
    if form.scope == "all":
        idents = [process.ident for process in await admin.processes()]
    signal = admin.quiet_process if action.name == "quiet" else admin.stop_process
    return ActionOutcome(sum([await signal(ident) for ident in idents]))


async def _do_to_periodic(site: Site, action: Button, form: Form) -> ActionOutcome:
    periodics = site.app.cron
    if action.name == "run_now":
        await periodics.run_now(form.target)
        return ActionOutcome(1)
    switch = periodics.enable if action.name == "enable" else periodics.disable
    return ActionOutcome(int(await switch(form.target)))
