"""A server's URL: taken apart by one rule, and shown without its secrets. Pure."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from kiqpy._declare.connection import NeedsTLS, is_secret, keyword, of_text
from kiqpy._record import Record
from kiqpy.errors import ConfigError

_SCHEMES: Final = ("redis", "rediss", "unix")
_LIKE: Final = "as in redis://localhost:6379/0"
_ENCODE: Final = (
    "a character such as @ / ? # : % or a space in a password is percent-encoded: "
    "urllib.parse.quote(password, safe='')"
)
_HIDDEN: Final = "***"


class Address(Record):
    """Where a server is, and what its URL says of the connection, under redis-py's names."""

    scheme: str
    settings: dict[str, Any]

    @property
    def tls(self) -> bool:
        """Whether what is sent there is encrypted."""
        return self.scheme == "rediss"


def read_address(url: object) -> Address:
    """The parts of a URL. ConfigError, without any part of a password, says what is wrong."""
    if not isinstance(url, str):
        raise ConfigError(f"redis_url is of type {type(url).__name__}: give a text, {_LIKE}")
    parts = _split(url)
    found: dict[str, Any] = _said_in_query(parts, url)
    for name in ("username", "password"):
        if value := getattr(parts, name):
            found[name] = unquote(value)
    if parts.scheme == "unix":
        if parts.hostname or not parts.path:
            raise _wrong(url, "three slashes stand before a socket's path: unix:///run/redis.sock")
        return Address(parts.scheme, {**found, "path": unquote(parts.path)})
    if parts.hostname:
        found["host"] = unquote(parts.hostname)
    if parts.port is not None:
        found["port"] = parts.port
    if number := _database(parts.path, url):
        found.setdefault("db", int(number))
    return Address(parts.scheme, found)


def _split(url: str) -> SplitResult:
    """The parts of a URL as they stand there, if it is one that nobody could read otherwise."""
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise _wrong(url, f"it holds a space or a line break; {_ENCODE}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _wrong(url, f"its host or port can't be read, {_LIKE}; {_ENCODE}") from None
    if parts.scheme not in _SCHEMES or not url[len(parts.scheme) :].startswith("://"):
        begins = " or ".join(f"{scheme}://" for scheme in _SCHEMES)
        raise _wrong(url, f"it must begin with {begins}, {_LIKE}")
    if "@" in parts.path + parts.query or "#" in url:
        raise _wrong(url, f"an @ or # stands where none may; {_ENCODE}")
    if port == 0:
        raise _wrong(url, f"0 is no port, {_LIKE}")
    return parts


def _database(path: str, url: str) -> str:
    number = path.strip("/")
    if number and not re.fullmatch(r"[0-9]{1,9}", number):
        raise _wrong(url, f"what follows the last / is the number of a database, {_LIKE}")
    return number


def _said_in_query(parts: SplitResult, url: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise _wrong(url, f"after the ? stands name=value; {_ENCODE}") from None
    for name, text in pairs:
        known = keyword(name, "redis_url: ")
        if isinstance(known, NeedsTLS) and parts.scheme != "rediss":
            raise ConfigError(f"redis_url: {known.message(name)}")
        found |= of_text(name, text)
    return found


def _wrong(url: str, what: str) -> ConfigError:
    return ConfigError(f"redis_url={_scheme_of(url)!r}: {what}")


def _scheme_of(url: str) -> str:
    """All that is shown of a text that may hold a password anywhere."""
    found = re.match(r"[A-Za-z][A-Za-z0-9+.-]{0,15}://", url)
    return f"{found[0] if found else ''}{_HIDDEN}"


def redacted(url: str) -> str:
    """The address without its secrets; of a text that is none, the scheme."""
    try:
        parts = _split(url)
    except ConfigError:
        return _scheme_of(url)
    user, at, host = parts.netloc.rpartition("@")
    if at:
        host = f"{user.split(':')[0]}:{_HIDDEN}@{host}"
    query = "&".join(map(_shown, parts.query.split("&"))) if parts.query else ""
    return f"{parts.scheme}://{host}{parts.path}{'?' if query else ''}{query}"


def _shown(pair: str) -> str:
    name, equals, value = pair.partition("=")
    return f"{name}={_HIDDEN}" if not equals or is_secret(unquote(name)) else f"{name}={value}"
