"""Every keyword of redis-py's connections: it works, it has no effect, or it is refused."""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from kiqpy import App, ConfigError, StoreRefused, StoreUnavailable, env, worker
from kiqpy._declare.address import redacted
from kiqpy._declare.connection import KEYWORDS, Barred, Fixed, NeedsTLS, Takes
from kiqpy.store.redis.connections import WAIT_S, Connections, SingleServer
from tests.server import TestServer

pytestmark = pytest.mark.anyio

TLS = Path(__file__).parent / "tls"
CERTIFICATE = str(TLS / "cert.pem")
SAID: dict[str, list[object]] = {  # what one may say
    "db": [0, 3], "username": [None, "default"], "password": [None], "credential_provider": [None],
    "socket_timeout": [None, 1, 2.5], "socket_connect_timeout": [None, 3],
    "socket_keepalive": [True, False, None],
    "socket_keepalive_options": [None, {}, {socket.TCP_KEEPCNT: 3}],
    "socket_read_size": [1024], "socket_type": [0], "client_name": ["shop"],
}  # fmt: skip
SAID_WITH_TLS: dict[str, list[object]] = {
    "ssl_keyfile": [None], "ssl_certfile": [None], "ssl_cert_reqs": ["required", ssl.CERT_REQUIRED],
    "ssl_include_verify_flags": [None, [ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST]],
    "ssl_exclude_verify_flags": [None, []], "ssl_ca_certs": [CERTIFICATE],
    "ssl_ca_data": [None], "ssl_ca_path": [None],
    "ssl_check_hostname": [True, False], "ssl_min_version": [ssl.TLSVersion.TLSv1_2],
    "ssl_ciphers": [None], "ssl_password": [None, "x"],
}  # fmt: skip
HOSTILE: dict[str, list[object]] = {  # what would change replies, or send a command again
    "decode_responses": [True, "yes"], "encoding": ["utf-16", None], "encoding_errors": ["x"],
    "protocol": [3, 9], "retry": [redis.retry.Retry(redis.backoff.NoBackoff(), 5)],
    "retry_on_timeout": [True], "retry_on_error": [[Exception]], "health_check_interval": [1],
    "legacy_responses": [False], "max_connections": [1, 0], "timeout": [1],
    "single_connection_client": [True], "auto_close_connection_pool": [False],
}  # fmt: skip
IN_URL = {
    "db": "0", "username": "default", "socket_timeout": "1.5", "socket_connect_timeout": "2",
    "socket_keepalive": "yes", "socket_read_size": "1024", "client_name": "shop",
    "decode_responses": "true", "encoding": "utf-16",
    "encoding_errors": "x", "protocol": "3", "retry": "5", "retry_on_timeout": "true",
    "retry_on_error": "x", "health_check_interval": "1", "legacy_responses": "false",
    "max_connections": "1", "timeout": "1", "single_connection_client": "true",
    "auto_close_connection_pool": "true",
}  # fmt: skip
WRONG: dict[str, list[object]] = {
    "db": [-1, 1.5, "0", None, True], "username": [5, "a\nb"], "password": [5, ["x"]],
    "credential_provider": ["x", 5], "socket_timeout": [0, -1, "5", True, 5000, float("nan")],
    "socket_connect_timeout": [0, -1, "5", 5000], "socket_keepalive": ["yes", 1],
    "socket_keepalive_options": [5, [1]], "socket_read_size": [0, -1, "x", None, 2**40],
    "socket_type": [-1, "x", 99], "client_name": ["a b", 5],
    "ssl_keyfile": [5], "ssl_certfile": [5], "ssl_cert_reqs": ["never", 7],
    "ssl_include_verify_flags": [5, "x"], "ssl_exclude_verify_flags": [5], "ssl_ca_certs": [5],
    "ssl_ca_data": [5], "ssl_ca_path": [5], "ssl_check_hostname": ["no", None],
    "ssl_min_version": ["1.2", -1], "ssl_ciphers": [5], "ssl_password": [5],
}  # fmt: skip


def table(rows: Mapping[str, list[object]]) -> list[Any]:
    return [
        pytest.param(name, value, id=f"{name}-{at}")
        for name, values in rows.items()
        for at, value in enumerate(values)
    ]


def keywords_of_redis_py() -> Iterator[str]:
    kinds: list[Any] = [redis.Redis, redis.asyncio.Redis]
    for module in (redis.connection, redis.asyncio.connection):
        kinds += [
            module.AbstractConnection,
            module.Connection,
            module.SSLConnection,
            module.UnixDomainSocketConnection,
            module.ConnectionPool,
            module.BlockingConnectionPool,
        ]
    for kind in kinds:
        for name, parameter in inspect.signature(kind.__init__).parameters.items():
            if parameter.kind < inspect.Parameter.VAR_POSITIONAL or (
                parameter.kind is inspect.Parameter.KEYWORD_ONLY
            ):
                yield name


def test_no_keyword_of_redis_py_is_unknown_here() -> None:
    mine = {"self", "connection_kwargs", "queue_class"}
    assert set(keywords_of_redis_py()) - mine - KEYWORDS.keys() == set()
    tested = {Takes: SAID, NeedsTLS: SAID_WITH_TLS, Fixed: HOSTILE}
    for kind, rows in tested.items():
        assert {n for n, k in KEYWORDS.items() if isinstance(k, kind)} == rows.keys()
    in_text = {n for n, k in KEYWORDS.items() if isinstance(k, Takes | Fixed) and _readable(k)}
    assert in_text - {"password"} == IN_URL.keys()


def _readable(known: object) -> bool:
    return not isinstance(known, Takes) or known.read is not None


async def answers_bytes(url: str, options: Mapping[str, Any]) -> None:
    """A command, a wait and the thread's client are answered with bytes, in RESP2's forms."""
    connections = Connections(SingleServer(url, options), 2)
    try:
        assert await connections.command("ECHO", "é") == "é".encode()
        await connections.command("HSET", "kiq:cron", "a", "1")
        assert await connections.command("HGETALL", "kiq:cron") == [b"a", b"1"]
        assert await connections.wait("q", ("BLPOP", "nothing", 0.01)) is None
        client = SingleServer(url, options).client()
        assert await asyncio.to_thread(client.execute_command, "ECHO", "é") == "é".encode()
        client.close()
        assert connections.connection().retry._retries == 0
    finally:
        await connections.command("DEL", "kiq:cron")
        await connections.close()


@pytest.mark.parametrize(("name", "value"), table(SAID))
async def test_what_one_may_say_works(name: str, value: Any, clean: TestServer) -> None:
    assert App(redis_options={name: value}).config.redis_options[name] == value
    await answers_bytes(clean.url, {name: value})


@pytest.mark.parametrize(("name", "value"), table(HOSTILE))
async def test_what_would_change_replies_has_no_effect(
    name: str, value: Any, clean: TestServer
) -> None:
    assert name not in App(redis_options={name: value}).config.redis_options
    await answers_bytes(clean.url, {name: value})


@pytest.mark.parametrize(("name", "text"), IN_URL.items())
async def test_a_url_says_it_as_well(name: str, text: str, clean: TestServer) -> None:
    App(redis_url=f"{clean.url}?{name}={text}")
    await answers_bytes(f"{clean.url}?{name}={text}", {})


async def test_a_job_runs_once_whatever_a_shared_url_says(clean: TestServer) -> None:
    ran: list[int] = []

    @worker
    async def note(n: int) -> None:
        ran.append(n)

    query = "&".join(f"{n}={t}" for n, t in IN_URL.items() if isinstance(KEYWORDS[n], Fixed))
    async with (
        App(redis_url=f"{clean.url}?{query}", workers=[note]) as jobs,
        jobs.events("job.success", "fetch.*") as stream,
    ):
        await jobs.enqueue_many([note.new(n) for n in range(20)])
        for _ in range(20):
            assert (await anext(stream)).name == "job.success"
    assert sorted(ran) == [*range(20)]


@pytest.mark.parametrize("name", [n for n, k in KEYWORDS.items() if isinstance(k, Barred)])
def test_what_must_not_be_said_is_refused_with_the_reason(name: str) -> None:
    known = KEYWORDS[name]
    assert isinstance(known, Barred)
    for given in ({"redis_options": {name: 1}}, {"redis_url": f"rediss://host/0?{name}=1"}):
        with pytest.raises(ConfigError) as caught:
            App(**given)
        assert f"{name} can't be set: {known.reason}" in str(caught.value)


@pytest.mark.parametrize(("name", "value"), table(WRONG))
def test_a_wrong_value_is_refused_when_it_is_declared(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        App(redis_options={name: value})


@pytest.mark.parametrize("value", [None, 5, "x", ["socket_timeout"], {5: 5}, {"nosuch": 1}])
def test_options_that_are_none_are_refused_when_they_are_declared(value: Any) -> None:
    with pytest.raises(ConfigError, match="redis_options"):
        App(redis_options=value)


def test_a_misspelt_keyword_gets_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no 'socket_timeuot'; did you mean 'socket_timeout'\?"):
        App(redis_options={"socket_timeuot": 5})
    with pytest.raises(ConfigError, match=r"redis_url: .*'dbb'; did you mean 'db'\?"):
        App(redis_url="redis://localhost?dbb=5")


@pytest.mark.parametrize("where", ["redis_options", "redis_url"])
@pytest.mark.parametrize("name", [n for n, k in KEYWORDS.items() if isinstance(k, NeedsTLS)])
def test_tls_needs_its_own_scheme(name: str, where: str) -> None:
    if where == "redis_url":
        with pytest.raises(ConfigError, match=f"{name} has no effect .*rediss://"):
            App(redis_url=f"redis://localhost/0?{name}=none")
        return
    with pytest.raises(ConfigError, match=f"{name} has no effect .*rediss://"):
        SingleServer("redis://localhost/0", {name: SAID_WITH_TLS[name][0]})


def test_a_short_timeout_in_the_url_does_not_cut_waits_short() -> None:
    """Only as an option it was known that a wait takes longer than a command."""
    for server in (
        SingleServer("redis://localhost?socket_timeout=1", {}),
        SingleServer("redis://localhost", {"socket_timeout": 1}),
    ):
        assert (server.command_s, server.wait_s) == (1, WAIT_S + 1)
        assert server.connection().socket_timeout is None


# -- TLS


@pytest.fixture(scope="module")
def tcp_server() -> Iterator[TestServer]:
    server = TestServer(tcp=True)
    yield server
    server.stop()


@asynccontextmanager
async def with_tls(server: TestServer) -> AsyncIterator[int]:
    """A port that speaks TLS, in front of the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                sink.write(data)
        finally:
            sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(pump(reader, forth), pump(back, writer), return_exceptions=True)

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as listener:
        yield listener.sockets[0].getsockname()[1]


@pytest.mark.parametrize(("name", "value"), table(SAID_WITH_TLS))
async def test_what_one_may_say_of_tls_works(name: str, value: Any, tcp_server: TestServer) -> None:
    async with with_tls(tcp_server) as port:
        given = {"ssl_ca_certs": CERTIFICATE, name: value}
        await answers_bytes(f"rediss://localhost:{port}/0", given)


@pytest.mark.parametrize(
    ("host", "query"), [("localhost", ""), ("127.0.0.1", f"?ssl_ca_certs={CERTIFICATE}")]
)
async def test_an_untrusted_certificate_is_refused_with_the_fix(
    host: str, query: str, tcp_server: TestServer
) -> None:
    """It counted as an outage, and was tried again for ever."""
    async with with_tls(tcp_server) as port:
        with pytest.raises(StoreRefused, match=r"not trusted \(.*\): name its .*ssl_ca_certs"):
            await App(redis_url=f"rediss://{host}:{port}/0{query}").start()


async def test_a_port_that_does_not_speak_tls_is_suspected(tcp_server: TestServer) -> None:
    url = f"rediss://127.0.0.1:{tcp_server.port}/0?socket_timeout=1"
    with pytest.raises(
        StoreUnavailable, match="may not speak TLS, then the URL begins with redis:"
    ):
        await App(redis_url=url).start()


def test_a_certificate_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"ssl_ca_certs='/nowhere': there is no such file"):
        SingleServer("rediss://localhost", {"ssl_ca_certs": "/nowhere"})


async def test_what_redis_py_itself_refuses_is_said_at_the_start() -> None:
    provider = redis.UsernamePasswordCredentialProvider("me", SECRET)
    with pytest.raises(
        ConfigError, match=r"redis-py can't make a connection .*cannot be passed"
    ) as e:
        SingleServer("redis://:x@localhost", {"credential_provider": provider})
    assert SECRET not in str(e.value)


# -- secrets

SECRET = "s3cr3t"
BAD_URLS = [
    f"redis://:{SECRET}/x@host:6379/0", f"redis://:{SECRET}#x@host:6379/0",
    f"redis://:{SECRET}?x@host:6379/0", f"redis://:x/{SECRET}@host:6379/0",
    f"redis://:x#{SECRET}@host", f"redis://:x?{SECRET}@host", f"redis://u:1/{SECRET}@host",
    f"redis://:1?{SECRET}=1@host/0", f"redis://:1?db={SECRET}@host/0",
    f"redis://:a@{SECRET}/b@host", f"redis://:a@b?{SECRET}@host",
    f"redis://:[{SECRET}@host/0", f"redis://:{SECRET} @host/0", f"redis://:{SECRET}\n@host/0",
    f"redis://:{SECRET}@host/0\n", f"redis://:{SECRET}@host/abc", f"redis://:{SECRET}@host:port/0",
    f"redis://:{SECRET}@host:0/0", f"redis://:{SECRET}@host:99999/0", f"redis://:{SECRET}",
    f"redis://user:{SECRET}/0", f"http://:{SECRET}@host/0", f"redis:/:{SECRET}@host/0",
    f":{SECRET}@host", f"unix://:{SECRET}@", f"unix://:{SECRET}@host/path",
    f"redis://host?password={SECRET}&x", f"redis://host?password={SECRET}&dbb=1",
    f"redis://host?password={SECRET}&db=x", f"redis://host?ssl_password={SECRET}",
]  # fmt: skip


@pytest.mark.parametrize("url", BAD_URLS)
def test_no_message_shows_a_part_of_a_password(url: str) -> None:
    assert SECRET not in redacted(url)
    for declare in (lambda: App(redis_url=url), lambda: SingleServer(url, {})):
        with pytest.raises(ConfigError) as caught:
            declare()
        assert SECRET not in "".join(traceback.format_exception_only(caught.value))
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None or caught.value.__suppress_context__
        assert "urlsplit" not in str(caught.value.__context__ or "")


@pytest.mark.parametrize("letter", "/#? \n\t[]")
def test_a_password_that_was_not_encoded_is_answered_with_how_to(letter: str) -> None:
    with pytest.raises(ConfigError, match="percent-encoded"):
        App(redis_url=f"redis://:{SECRET}{letter}x@host:6379/0")


@pytest.mark.parametrize("letter", "@%:+&=")
def test_what_can_be_read_in_one_way_need_not_be_encoded(letter: str) -> None:
    url = f"redis://:{SECRET}{letter}x@host:6379/0"
    assert redacted(url) == "redis://:***@host:6379/0"
    assert SingleServer(url, {}).connection().password == f"{SECRET}{letter}x"


@pytest.mark.parametrize(
    "url", ["REDIS://:a%2Fb@host:6379/5", "redis://:a%2Fb@host/5", "redis://:a%2Fb@host?db=5"]
)
def test_one_rule_reads_every_url(url: str) -> None:
    App(redis_url=url)
    settings = SingleServer(url, {}).connection()
    assert (settings.host, settings.db, settings.password) == ("host", 5, "a/b")


@pytest.mark.parametrize("url", ["redis://host/abc", "redis://host/1/2", "redis://host/-1"])
def test_a_database_that_is_no_number_is_refused(url: str) -> None:
    """It was taken for database 0."""
    with pytest.raises(ConfigError, match="the number of a database"):
        App(redis_url=url)


def test_a_shown_config_holds_no_secret() -> None:
    app = App(
        redis_url=f"redis://:{SECRET}@host/0?password={SECRET}",
        redis_options={"password": SECRET},
    )
    assert SECRET not in repr(app.config)
    assert "redis://:***@host/0?password=***" in repr(app.config)
    with pytest.raises(ConfigError) as caught:
        App(redis_options={"username": f"{SECRET}\n"})
    assert SECRET not in str(caught.value)


async def test_an_environment_that_holds_a_bad_url_is_not_quoted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHOP_REDIS", f"redis://:{SECRET}/x@host")
    with pytest.raises(ConfigError) as caught:
        await App(redis_url=env("SHOP_REDIS")).start()
    assert SECRET not in str(caught.value)
