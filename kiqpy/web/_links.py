"""Links. All pages lie side by side, so that relative ones hold under any mount path and proxy."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

PAGES: Final = {"scheduled": "scheduled", "retry": "retries", "dead": "dead"}  # of a place
_MAX_NAME_CHARS: Final = 256  # of a queue that has a link


def link(page: str, /, **query: object) -> str:
    """A page, `.` for the overview, with those of the parameters that are not empty."""
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{page}?{urlencode(given, errors='replace')}" if given else page


def queue_link(name: str) -> str:
    """The page of a queue, whichever program has named it; empty if the name is no text."""
    fit = 0 < len(name) <= _MAX_NAME_CHARS and name.isprintable()
    return link("queue", name=name) if fit else ""


def place_link(place: str, /, **query: object) -> str:
    """The page that lists a place."""
    if place in PAGES:
        return link(PAGES[place], **query)
    kind, _, name = place.partition(":")
    return link("queue", name=name, **query) if kind == "queue" else link("running")
