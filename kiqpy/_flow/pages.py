"""Many things in pages, each of which can be sent and carried out in one step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import TypeVar

T = TypeVar("T")


def pages(
    items: Iterable[T],
    max_items: int,
    max_bytes: float = inf,
    size_of: Callable[[T], int] = lambda _item: 0,
) -> Iterator[list[T]]:
    """The items in order: each page has one at least, and no more than either bound allows."""
    page: list[T] = []
    size = 0
    for item in items:
        added = size_of(item)
        size += added
        if page and (len(page) >= max_items or size > max_bytes):
            yield page
            page, size = [], added
        page.append(item)
    if page:
        yield page
