"""The Lua scripts: each is read once, and called by its SHA; an unknown one is sent as text.

A script may name shared parts in its header (`-- uses: types, effects`). They are put before it:
`lua/shared/PART.lua`, and after `effects` every function of `lua/effects/`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Set
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

_USES: Final = re.compile(r"^-- uses: (.+)$", re.MULTILINE)
_LUA: Final = files("kiqpy.store.redis").joinpath("lua")


class Script(NamedTuple):
    text: bytes
    sha: str


@cache
def script(name: str) -> Script:
    """`lua/NAME.lua` with the parts that it uses, and the SHA by which a server knows it."""
    text = "\n".join(_parts(_LUA.joinpath(f"{name}.lua").read_text("utf-8"))).encode()
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest())


def _parts(text: str) -> Iterator[str]:
    uses = _USES.search(text)
    for part in uses[1].split(", ") if uses else ():
        yield _LUA.joinpath("shared", f"{part}.lua").read_text("utf-8")
        if part == "effects":
            yield from _effects().values()
    yield text


@cache
def _effects() -> dict[str, str]:
    """The Lua text of each effect, by its op."""
    found = sorted(_LUA.joinpath("effects").iterdir(), key=lambda file: file.name)
    return {file.name.removesuffix(".lua"): file.read_text("utf-8") for file in found}


def effect_names() -> Set[str]:
    """The effects that scripts can carry out."""
    return _effects().keys()


def add_effect(op: str, text: str) -> None:
    """Add an effect to the scripts, before any store opens. `text`: Lua that sets `effects.OP`."""
    _effects()[op] = text
    script.cache_clear()
