"""Reads URLs and forms. Invalid values are clamped or ignored: a URL never causes an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from starlette.datastructures import QueryParams
from starlette.requests import Request

from kiqpy.admin import Field
from kiqpy.web._guard import Refused
from kiqpy.web._links import link

PER_PAGE: Final = (25, 50, 100)
DAYS: Final = (7, 30, 90, 180)
FIELDS: Final[Mapping[str, Field]] = {
    "class": "class",
    "queue": "queue",
    "jid": "jid",
    "error": "error",
    "args": "args",
    "tags": "tags",
}
_NOTICE: Final = ("did", "done", "gone", "unreadable", "left")
_PAGE_LINK: Final = re.compile(
    r"(?:\.|queues|queue|running|scheduled|retries|dead|periodic|processes)(?:\?[!-~]*)?"
)
_MAX_TEXT, _MAX_PAGE, _MAX_COUNT = 200, 1_000_000, 10**12
_MAX_FORM_BYTES: Final = 2**20
_MAX_FORM_FIELDS: Final = 2000


class Query(NamedTuple):
    """Which part of a list a URL asks for."""

    page: int
    per: int
    text: str
    field: str
    newest: bool | None
    cursor: str
    days: int

    @classmethod
    def of(cls, request: Request) -> Query:
        """What the URL says."""
        given = request.query_params
        cursor = given.get("cursor", "")
        return cls(
            page=_whole(given, "page", 1, _MAX_PAGE) or 1,
            per=_one_of(given, "per", PER_PAGE, 25),
            text=given.get("text", "").strip()[:_MAX_TEXT],
            field=given.get("field", "") if given.get("field") in FIELDS else "",
            newest={"1": True, "0": False}.get(given.get("newest", "")),
            cursor=cursor if re.fullmatch(r"[0-9]{1,20}", cursor) else "",
            days=_one_of(given, "days", DAYS, 90),
        )


class Form(NamedTuple):
    """The form that a button sends."""

    do: str
    scope: str  # "all", "match", or empty: what is selected
    place: str
    tokens: tuple[str, ...]
    target: str  # a queue, a process, a periodic
    text: str
    field: str
    counted: int
    back: str
    confirmed: bool

    @classmethod
    async def read(cls, request: Request) -> Form:
        """The body, which may be a megabyte; Refused beyond it."""
        fields = await _fields(request)
        given = dict(reversed(fields))
        back = given.get("back", "")
        return cls(
            do=given.get("do", ""),
            scope=given.get("scope", ""),
            place=given.get("place", "")[:_MAX_TEXT],
            tokens=tuple(value for name, value in fields if name == "row"),
            target=given.get("target", "")[:1000],
            text=given.get("text", "").strip()[:_MAX_TEXT],
            field=given.get("field", "") if given.get("field") in FIELDS else "",
            counted=_whole(given, "count", 0, _MAX_COUNT),
            back=back if _PAGE_LINK.fullmatch(back) else ".",
            confirmed=given.get("confirmed") == "yes",
        )


async def _fields(request: Request) -> list[tuple[str, str]]:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MAX_FORM_BYTES:
            raise Refused(413, "That was too much for one form. Select fewer jobs.")
    text = body.decode("ascii", "replace")
    try:
        return parse_qsl(text, max_num_fields=_MAX_FORM_FIELDS)
    except ValueError:
        raise Refused(400, "That form has too many fields. Select fewer jobs.") from None


class Notice(NamedTuple):
    """The result of the last action; in numbers, so that no link can put words on a page."""

    did: str
    done: int
    gone: int
    unreadable: int
    left: bool

    @classmethod
    def of(cls, request: Request) -> Notice | None:
        """What the URL says; None after no action."""
        given = request.query_params
        if not given.get("did"):
            return None
        done, gone, unreadable, left = (_whole(given, name, 0, _MAX_COUNT) for name in _NOTICE[1:])
        return cls(given["did"], done, gone, unreadable, bool(left))


def here(request: Request) -> str:
    """The link to the page that is shown, without what the last action has come to."""
    page = request.url.path.rpartition("/")[2] or "."
    kept = [(k, v) for k, v in request.query_params.multi_items() if k not in _NOTICE]
    return link(page, **dict(kept))


def with_notice(back: str, **numbers: object) -> str:
    """The page to go back to, with what was done."""
    page, _, query = back.partition("?")
    kept = {k: v for k, v in parse_qsl(query) if k not in _NOTICE}
    return link(page, **kept, **numbers)


def _whole(given: Mapping[str, str] | QueryParams, name: str, least: int, most: int) -> int:
    text = given.get(name, "") or ""
    if not re.fullmatch(r"[0-9]{1,15}", text):
        return least
    return max(least, min(most, int(text)))


def _one_of(given: QueryParams, name: str, known: tuple[int, ...], default: int) -> int:
    value = _whole(given, name, 0, 1000)
    return value if value in known else default
