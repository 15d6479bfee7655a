"""What redis-py's connections may be told: by the option `redis_options`, or in a URL. Pure.

Each of redis-py's keywords is in one of three tables: what one may say, what kiqpy says itself (a
URL that web code shares may say otherwise, and has no effect), and what would change the replies
that kiqpy reads, or when a command is sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast

from kiqpy._declare.checks import Check, flag, seconds
from kiqpy.errors import ConfigError, suggest


class Takes(NamedTuple):
    """A keyword that one may say: its check, and how a URL's text becomes its value."""

    check: Check
    read: Callable[[str], Any] | None = str


class NeedsTLS(NamedTuple):
    """A keyword of connections that are encrypted."""

    check: Check
    read: Callable[[str], Any] | None = str

    def message(self, name: str) -> str:
        """What to say to who gives it for a plain connection."""
        return f"{name} has no effect on a connection without TLS: write rediss://host:port/0"


class Fixed(NamedTuple):
    """A keyword that kiqpy sets itself; what is said of it has no effect."""


class Barred(NamedTuple):
    """A keyword that can't be said, and why."""

    reason: str


Keyword = Takes | NeedsTLS | Fixed | Barred


def _number(least: int, most: int) -> Check:
    def check(name: str, value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ConfigError(f"{name}={value!r}: give a whole number from {least} to {most}")
        return value

    return check


def _limit(name: str, value: object) -> object:
    return None if value is None else seconds(0.001, 3600)(name, value)


def _text(name: str, value: object) -> object:
    if value is not None and not (isinstance(value, str) and value.isprintable()):
        raise ConfigError(f"{name}: give a text, not {_type(value)}")  # it may be a secret
    return value


def _secret(name: str, value: object) -> object:
    if value is not None and not isinstance(value, str | bytes):
        raise ConfigError(f"{name}: give a text, not {_type(value)}")
    return value


def _word(name: str, value: object) -> object:
    if value is not None and (not isinstance(value, str) or not value.isascii() or " " in value):
        raise ConfigError(f"{name}={value!r}: give a text without spaces")
    return value


def _type(value: object) -> str:
    return f"a value of type {type(value).__name__}"


def _socket_settings(name: str, value: object) -> object:
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(f"{name}={value!r}: give {{socket.TCP_KEEPIDLE: 60}}")
    return cast("object", value)


def _credentials(name: str, value: object) -> object:
    if value is not None and not callable(getattr(value, "get_credentials", None)):
        raise ConfigError(f"{name}: give a redis.CredentialProvider, not {_type(value)}")
    return value


def _requirement(name: str, value: object) -> object:
    if value not in ("none", "optional", "required", None) and not hasattr(value, "name"):
        raise ConfigError(f"{name}={value!r}: give 'none', 'optional' or 'required'")
    return value


def _flags(name: str, value: object) -> object:
    if value is not None and not isinstance(value, list | tuple):
        raise ConfigError(f"{name}={value!r}: give a list of ssl.VerifyFlags")
    return cast("object", value)


def _read_flag(text: str) -> bool:
    if text.lower() not in ("true", "yes", "1", "false", "no", "0"):
        raise ValueError
    return text.lower() in ("true", "yes", "1")


def _optional_flag(name: str, value: object) -> object:
    return None if value is None else flag(name, value)


_ADDRESS: Final = Barred('it is part of redis_url: "redis://host:port/0", "unix:///path"')
_POOL: Final = Barred("kiqpy makes its own connections: pool_size= says how many")
_REPLIES: Final = Barred("kiqpy reads replies as they are sent, with a parser of its own choice")
_HOOK: Final = Barred("kiqpy itself says what a connection begins with")
_NEWS: Final = Barred("kiqpy connects anew by itself; it does not listen to maintenance news")
_NAME: Final = Barred("a connection is called by client_name=")
_OCSP: Final = Barred("redis-py knows it for clients without asyncio only")

_TLS: Final[Mapping[str, Keyword]] = {
    "ssl_keyfile": NeedsTLS(_text),
    "ssl_certfile": NeedsTLS(_text),
    "ssl_cert_reqs": NeedsTLS(_requirement),
    "ssl_include_verify_flags": NeedsTLS(_flags, None),
    "ssl_exclude_verify_flags": NeedsTLS(_flags, None),
    "ssl_ca_certs": NeedsTLS(_text),
    "ssl_ca_data": NeedsTLS(_secret),
    "ssl_ca_path": NeedsTLS(_text),
    "ssl_check_hostname": NeedsTLS(flag, _read_flag),
    "ssl_min_version": NeedsTLS(_number(0, 0xFFFF), int),
    "ssl_ciphers": NeedsTLS(_text),
    "ssl_password": NeedsTLS(_secret),
}
FIXED: Final[Mapping[str, object]] = MappingProxyType(
    {
        "decode_responses": False,
        "encoding": "utf-8",
        "encoding_errors": "strict",
        "protocol": 2,
        "retry_on_timeout": False,
        "retry_on_error": [],
        "health_check_interval": 0,
    }
)
_WITHOUT_EFFECT: Final = (
    *FIXED,
    "retry",
    "legacy_responses",
    "max_connections",
    "timeout",
    "single_connection_client",
    "auto_close_connection_pool",
)
KEYWORDS: Final[Mapping[str, Keyword]] = {
    **_TLS,
    **dict.fromkeys(_WITHOUT_EFFECT, Fixed()),
    "db": Takes(_number(0, 10**9), int),
    "username": Takes(_text),
    "password": Takes(_secret),
    "credential_provider": Takes(_credentials, None),
    "socket_timeout": Takes(_limit, float),
    "socket_connect_timeout": Takes(_limit, float),
    "socket_keepalive": Takes(_optional_flag, _read_flag),
    "socket_keepalive_options": Takes(_socket_settings, None),
    "socket_read_size": Takes(_number(1, 2**30), int),
    "socket_type": Takes(_number(0, 2), None),
    "client_name": Takes(_word),
    **dict.fromkeys(("lib_name", "lib_version", "driver_info"), _NAME),
    **dict.fromkeys(("host", "port", "path", "unix_socket_path"), _ADDRESS),
    "ssl": Barred("write redis_url as rediss://host:port/0"),
    **dict.fromkeys(("connection_pool", "connection_class", "from_url"), _POOL),
    **dict.fromkeys(("parser_class", "encoder_class", "command_packer"), _REPLIES),
    **dict.fromkeys(("cache", "cache_config", "cache_factory", "himport_registry"), _REPLIES),
    **dict.fromkeys(("redis_connect_func", "event_dispatcher"), _HOOK),
    **dict.fromkeys(
        (
            "maint_notifications_config",
            "maint_notifications_pool_handler",
            "maintenance_state",
            "maintenance_notification_hash",
            "orig_host_address",
            "orig_socket_timeout",
            "orig_socket_connect_timeout",
            "oss_cluster_maint_notifications_handler",
        ),
        _NEWS,
    ),
    **dict.fromkeys(
        (
            "ssl_validate_ocsp",
            "ssl_validate_ocsp_stapled",
            "ssl_ocsp_context",
            "ssl_ocsp_expected_cert",
        ),
        _OCSP,
    ),
}


def keyword(name: object, where: str) -> Keyword:
    """What redis-py's keyword of that name is here. ConfigError if it is none, or refused."""
    found = KEYWORDS.get(name) if isinstance(name, str) else None
    if found is None:
        known = [key for key, kind in KEYWORDS.items() if isinstance(kind, Takes | NeedsTLS)]
        advice = suggest(name, known) or "known: " + ", ".join(sorted(known))
        raise ConfigError(f"{where}redis-py's connections have no {name!r}; {advice}")
    if isinstance(found, Barred):
        raise ConfigError(f"{where}{name} can't be set: {found.reason}")
    return found


def of_text(name: str, text: str) -> dict[str, Any]:
    """The setting that `name=text` in a URL makes; none if it has no effect."""
    known = keyword(name, "redis_url: ")
    if not isinstance(known, Takes | NeedsTLS):
        return {}
    if known.read is None:
        raise ConfigError(f"redis_url: {name} is no text: give it in redis_options")
    try:
        value = known.read(text)
    except ValueError:
        raise ConfigError(f"redis_url: {name} can't be read as {_kind(known.read)}") from None
    return {name: known.check(f"redis_url: {name}", value)}


def _kind(read: Callable[[str], Any]) -> str:
    return {int: "a whole number", float: "seconds"}.get(cast("Any", read), "true or false")


def redis_options(name: str, value: object) -> Mapping[str, Any]:
    """The option of that name, checked: what one may say, without what has no effect."""
    if not isinstance(value, Mapping):
        raise ConfigError(f'{name}: give {{"socket_timeout": 5}}, not {_type(value)}')
    found: dict[str, Any] = {}
    for key, said in cast("Mapping[object, object]", value).items():
        known = keyword(key, f"{name}: ")
        if isinstance(known, Takes | NeedsTLS):
            found[cast("str", key)] = known.check(f"{name}[{key!r}]", said)
    return MappingProxyType(found)


def without_secrets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they may be shown."""
    return {name: "***" if is_secret(name) else value for name, value in settings.items()}


def is_secret(name: str) -> bool:
    """Whether the value of that keyword is shown to nobody."""
    return name in ("password", "username", "ssl_password", "credential_provider")
