"""The demo's input: the Python files of this machine's own installation, or of a folder."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from typing import Final

_MIN_FILES: Final = 1500  # below it (no test suite installed), packages are added
_MAX_FILES: Final = 4000
_INSTALLED: Final = ("site-packages", "dist-packages")


def python_files(source: str | None = None, limit: int | None = None) -> list[str]:
    """The paths, sorted; with a limit, a sample spread evenly over all of them."""
    found = sorted(set(_below(source or sysconfig.get_path("stdlib"))))
    if source is None and len(found) < _MIN_FILES:
        homes = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        found += sorted({path for home in homes for path in _below(home)})
    found = found[:_MAX_FILES]
    if limit is None or limit >= len(found):
        return found
    return [found[n * len(found) // limit] for n in range(limit)]


def _below(folder: str) -> Iterator[str]:
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _INSTALLED]
        for name in names:
            path = os.path.join(here, name)
            if name.endswith(".py") and _is_text(path) and os.path.isfile(path):
                yield path


def _is_text(path: str) -> bool:
    """Whether the path can be written as JSON."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
