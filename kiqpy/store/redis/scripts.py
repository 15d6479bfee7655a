"""The Lua scripts: read from their files once, known by their SHA, sent whole when unknown."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Script(NamedTuple):
    text: bytes
    sha: str


@cache
def script(name: str) -> Script:
    """`lua/NAME.lua` with the SHA under which a server knows it."""
    text = files("kiqpy.store.redis").joinpath("lua", f"{name}.lua").read_bytes()
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest())
