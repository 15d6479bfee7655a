"""Finds jobs by text in their payloads, or by the token of a row that was shown."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, cast, final

from kiqpy._payload.json import canonical, encode, split
from kiqpy.admin._rows import Found, JobRow, row, where
from kiqpy.errors import ArgumentError
from kiqpy.store.census import PLACES, Census

Field = Literal["class", "queue", "jid", "error", "args", "tags"]
_FIRST_STEP: Final = 100  # looked at in the first call; doubled while little is found
_LAST_STEP: Final = 1000
_MAX_JID_CHARS: Final = 200  # a token must fit into a URL
_MAX_FROM_EACH_END: Final = 1000  # of a queue, to find an unreadable entry


class Search(NamedTuple):
    """Jobs that match. `cursor`: where to go on; None: everything was looked at."""

    rows: Sequence[JobRow]
    searched: int
    cursor: str | None


def token(found: JobRow) -> str:
    """A short text that names one entry as it was seen: its digest, its score, its jid."""
    jid = found.jid if len(found.jid) <= _MAX_JID_CHARS else ""
    return f"{_digest(found.raw)}/{'' if found.at is None else repr(found.at)}/{jid}"


def _digest(raw: bytes) -> str:
    return hashlib.blake2b(raw, digest_size=12).hexdigest()


def forms(text: str) -> list[str]:
    """How a text may be spelt inside JSON: as it is, escaped, escaped to ASCII."""
    as_written = split(encode({"text": text}).decode())["text"][1:-1]
    return list(dict.fromkeys((text, as_written, canonical(text).decode()[1:-1])))


def matches(found: JobRow, text: str, fields: Iterable[Field]) -> bool:
    """Whether one of these fields holds the text."""
    return any(text in part for name in fields for part in _PARTS[name](found))


def _args(found: JobRow) -> list[str]:
    """The arguments' text as JSON, and each text in them as it reads."""
    parts, waiting = list[str](), list[object]([found.args])
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            parts.append(value)
        elif isinstance(value, list | dict):
            inner = cast("list[object] | dict[str, object]", value)
            waiting += [*inner, *inner.values()] if isinstance(inner, dict) else inner
    try:
        return [canonical(found.args).decode(), *parts]
    except (ValueError, RecursionError):
        return parts


def _tags(found: JobRow) -> list[str]:
    tags: object = found.job.payload.get("tags") if found.job else None
    return [str(tag) for tag in cast("list[object]", tags)] if isinstance(tags, list) else []


_PARTS: Final[Mapping[Field, Callable[[JobRow], Sequence[str]]]] = {
    "class": lambda found: [found.class_],
    "queue": lambda found: [found.queue],
    "jid": lambda found: [found.jid],
    "error": lambda found: [found.error_class, found.error_message],
    "args": _args,
    "tags": _tags,
}


@final
class Searcher:
    """Looks for jobs, a page of entries at a time."""

    def __init__(self, census: Census) -> None:
        self._census = census

    async def search(
        self,
        place: str,
        text: str,
        fields: Sequence[Field],
        *,
        cursor: str,
        limit: int,
        most: int,
    ) -> Search:
        """Look on from `cursor` until `limit` were found or `most` looked at."""
        spelt, rows, searched, step = forms(text), dict[bytes, JobRow](), 0, _FIRST_STEP
        at: str | None = cursor
        while at is not None and len(rows) < limit and searched < most:
            page = await self._census.search(place, spelt, at, min(step, most - searched))
            at, searched, step = page.cursor, searched + page.looked, min(_LAST_STEP, 2 * step)
            for entry in page.entries:
                found = row(place, entry)
                if not fields or matches(found, text, fields):
                    rows.setdefault(entry.raw, found)
        return Search([*rows.values()], searched, at)

    async def with_score(self, jid: str, place: str | None, score: float) -> Found:
        """The entries of a set with this jid and exactly this score."""
        at = where(place or "")
        if at not in PLACES:
            raise ArgumentError(f"{place!r} has no scores: leave `score` out")
        entries = await self._census.by_score(at, score)
        rows = [row(at, entry) for entry in entries if entry.job and entry.job.jid == jid]
        return Found(rows, len(entries), complete=True)

    async def locate(self, place: str, tokens: Iterable[str], most: int) -> list[JobRow]:
        """The rows that are still as they were when their tokens were made."""
        wanted = [_parsed(each) for each in dict.fromkeys(tokens)]
        if place in PLACES:
            return [found for each in wanted for found in await self._scored(place, each)]
        digests = {each.digest for each in wanted}
        found = await self._at_the_ends(place, digests)
        missing = {
            each.digest: each.jid for each in wanted if each.digest not in found and each.jid
        }
        return [*found.values(), *await self._in_queue(place, missing, most)]

    async def _scored(self, place: str, wanted: _Token) -> list[JobRow]:
        if wanted.score is None or place not in PLACES:
            return []
        entries = await self._census.by_score(place, wanted.score)
        rows = [row(place, entry) for entry in entries if _digest(entry.raw) == wanted.digest]
        return rows[:1]

    async def _at_the_ends(self, place: str, digests: set[str]) -> dict[str, JobRow]:
        """What is at one of a queue's ends, readable or not."""
        queue, found = place.removeprefix("queue:"), dict[str, JobRow]()
        for newest in (False, True):
            if len(found) < len(digests):
                entries = await self._census.queue_page(queue, 0, _MAX_FROM_EACH_END, newest=newest)
                seen = {_digest(entry.raw): row(place, entry) for entry in entries}
                found |= {digest: seen[digest] for digest in digests & seen.keys()}
        return found

    async def _in_queue(self, place: str, missing: dict[str, str], most: int) -> list[JobRow]:
        """What is further inside, all in one walk; `missing` is {digest: jid}."""
        rows, looked, cursor = list[JobRow](), 0, "" if missing else None
        while cursor is not None and missing and looked < most:
            spelt = [form for jid in missing.values() for form in forms(jid)]
            page = await self._census.search(place, spelt, cursor, _LAST_STEP)
            cursor, looked = page.cursor, looked + page.looked
            hits = [entry for entry in page.entries if missing.pop(_digest(entry.raw), None)]
            rows += [row(place, entry) for entry in hits]
        return rows


class _Token(NamedTuple):
    digest: str
    score: float | None
    jid: str


def _parsed(text: str) -> _Token:
    digest, slash, rest = text.partition("/")
    score, another, jid = rest.partition("/")
    try:
        if slash and another:
            return _Token(digest, float(score) if score else None, jid)
    except ValueError:
        pass
    raise ArgumentError(f"{text[:80]!r} is no token of a row")
