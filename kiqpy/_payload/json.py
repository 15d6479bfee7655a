"""Reads JSON payloads strictly, and changes single fields without touching the text of others.

When a retry or a rescue changes some fields, all others, above all `args`, keep their exact text:
Ruby's 30-digit integers and another client's spacing are preserved.
"""

from __future__ import annotations

import base64
import json
import json.decoder
import json.encoder
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn, cast

from kiqpy.errors import ArgumentError

_fast: Callable[[bytes], Any] | None
_write: Callable[[Any], bytes] | None
try:
    import msgspec  # not orjson, which makes floats of integers beyond 64 bit
except ImportError:
    _fast = _write = None
else:
    _fast, _write = msgspec.json.Decoder[Any]().decode, msgspec.json.Encoder().encode

# There, but not in the stubs.
_scan_string: Callable[[str, int], tuple[str, int]] = json.decoder.scanstring  # type: ignore[attr-defined]
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_PLAIN: Final[frozenset[object]] = frozenset((str, int, bool, type(None)))
_MAX_BACKTRACE_BYTES: Final = 2**20  # unpacked: a zlib bomb must not fill the memory
_RUBY_DEPTH: Final = 100
_SPACE = re.compile(r"[ \t\n\r]*")
_SIGNS_OF_UNUSUAL: Final = ("e-", "e+", ".0,", ".0}", ".0]")
_UNUSUAL = re.compile(r"\de[+-]\d|\d{16}\.0\b")  # a float that Ruby writes differently
_STRING_OR_FLOAT = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?e[+-]\d+|-?\d+\.\d+')


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_no_constant)
_scan: Callable[[str, int], tuple[Any, int]] = _decoder.scan_once  # type: ignore[attr-defined]
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
# One writer for all payloads, because `JSONEncoder.encode` makes one for each call. A value that
# contains itself is a RecursionError. None if the interpreter has no such writer in C.
_Writer = Callable[[Any, int], Sequence[str]]
_make_writer = cast("Callable[..., _Writer] | None", getattr(json.encoder, "c_make_encoder", None))
_pieces: _Writer | None = _make_writer and _make_writer(
    None,
    _encoder.default,
    json.encoder.encode_basestring,
    None,
    _encoder.key_separator,
    _encoder.item_separator,
    _encoder.sort_keys,
    _encoder.skipkeys,
    _encoder.allow_nan,
)
_sorting = json.JSONEncoder(sort_keys=True, allow_nan=False, separators=(",", ":"))


def read(raw: bytes) -> Any:
    """The value of a JSON text; the standard library decides about what msgspec refuses.

    Raises: ValueError, RecursionError.
    """
    if _fast is not None:
        try:
            return _fast(raw)
        except Exception:  # its errors have no common root with json's
            pass
    text = raw.decode()
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        return _decoder.decode(text)
    return value if end == len(text) else _decoder.decode(text)


def parse(raw: bytes) -> Any:
    """The value of a JSON text, or None if `raw` is no JSON."""
    try:
        return read(raw)
    except (ValueError, RecursionError):
        return None


def encode(payload: Mapping[str, Any], *, checked: bool = False) -> bytes:
    """The payload as strict, compact UTF-8 JSON.

    Floats are as Ruby writes them, because Sidekiq finds a job by the text it would write itself.
    `checked`: `check_args` returned True for its `args`, so msgspec may write them.
    Raises: ArgumentError: says which value JSON cannot carry.
    """
    if checked and _write is not None and _is_plain(payload):
        try:
            return _write(payload)
        except Exception:  # its errors have no common root with json's
            pass
    try:
        return write(payload).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise ArgumentError(f"the job can't be written as JSON: {error}") from None


def _is_plain(payload: Mapping[str, Any]) -> bool:
    """Whether msgspec writes this payload exactly as json does; msgspec accepts more types."""
    for name, value in payload.items():
        kind = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind is float:
            if not 1e-4 <= value < 1e15:
                return False
        elif kind not in _PLAIN and name != "args":
            return False
    return True


def write(value: object) -> str:
    """A value as JSON, its floats as Ruby writes them: `1.0e+22` where Python says `1e+22`."""
    text = "".join(_pieces(value, 0)) if _pieces is not None else _encoder.encode(value)
    if not _may_be_unusual(text):
        return text
    return _STRING_OR_FLOAT.sub(_as_ruby, text) if _UNUSUAL.search(text) else text


def _may_be_unusual(text: str) -> bool:
    """Rules out nearly every text: to search one for `_UNUSUAL` takes longer than to write it."""
    for sign in _SIGNS_OF_UNUSUAL:
        if sign in text:
            return True
    return text.endswith(".0")


def _as_ruby(found: re.Match[str]) -> str:
    text = found[0]
    if text[0] == '"' or not _UNUSUAL.search(text):
        return text
    mantissa, _, exponent = text.partition("e")
    if not exponent:  # a whole number of 16 digits, which Python writes out
        sign, digits = text[: text[0] == "-"], text.lstrip("-").rstrip(".0")
        mantissa, exponent = f"{sign}{digits[0]}.{digits[1:] or '0'}", "+15"
    return f"{mantissa}{'' if '.' in mantissa else '.0'}e{exponent}"


def canonical(value: object) -> bytes:
    """JSON that is the same text for equal values, for digests."""
    return _sorting.encode(value).encode()


def pack_lines(lines: Sequence[str]) -> str:
    """Lines as Sidekiq keeps a backtrace: base64 of zlib of a JSON array."""
    return base64.b64encode(zlib.compress(_encoder.encode(list(lines)).encode())).decode()


def unpack_lines(packed: object) -> list[str]:
    """The lines of a backtrace, packed or not; [] if it is unreadable or above 1 MiB."""
    if isinstance(packed, str):
        try:
            unpacker = zlib.decompressobj()
            packed = parse(unpacker.decompress(base64.b64decode(packed), _MAX_BACKTRACE_BYTES))
        except (ValueError, zlib.error):
            return []
    return [str(line) for line in cast("list[object]", packed)] if isinstance(packed, list) else []


def is_portable(raw: bytes) -> bool:
    """Whether Ruby can read this JSON and write it again.

    Ruby refuses more than 100 levels, lone surrogates, and numbers beyond the range of floats.
    """
    depth = deepest = 0
    text = raw.decode(errors="replace")
    for token in _TOKEN.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        deepest = max(deepest, depth)
    if deepest > _RUBY_DEPTH:
        return False
    try:
        _encoder.encode(read(raw)).encode()
    except ValueError:
        return False
    return True


def amend(raw: bytes, changes: Mapping[str, Any], drop: Sequence[str] = ()) -> bytes:
    """`raw` with some fields set or dropped; the text of all others stays exactly as it is.

    `raw` must have passed `decode`. Of a field that is there twice the last one stays.
    """
    fields = split(raw.decode())
    fields.update({name: write(value) for name, value in changes.items()})
    kept = (f"{_encoder.encode(k)}:{v}" for k, v in fields.items() if k not in drop)
    return ("{" + ",".join(kept) + "}").encode()


def split(text: str) -> dict[str, str]:
    """Each top-level field of a JSON object with the text of its value."""
    fields: dict[str, str] = {}
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] == '"':
        name, at = _scan_string(text, at + 1)
        start = _skip(text, _skip(text, at) + 1)
        end = _end(text, start)
        fields[name] = text[start:end]
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at
    return fields


def _end(text: str, start: int) -> int:
    """Where a value ends. Counts brackets if it is nested too deep for the decoder.

    How deep is too deep depends on the stack of the caller, so `decode` may have read more.
    """
    try:
        return _decoder.raw_decode(text, start)[1]
    except RecursionError:
        depth = 0
        for token in _TOKEN.finditer(text, start):
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
            if depth == 0:
                return token.end()
        raise


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
