"""What was accepted in silence, and did nothing or failed when a job ran: it is told at once."""

from __future__ import annotations

import types
from typing import Any, ClassVar

import pytest

from kiqpy import App, ConfigError, Reporter, Worker, worker


def declare(body: dict[str, Any], **keywords: Any) -> type[Worker]:
    async def perform(self: Worker) -> None: ...

    return types.new_class(
        "Mail", (Worker,), keywords, lambda space: space.update({"perform": perform, **body})
    )


def by_three(_n: int, _error: BaseException, _job: object) -> float:
    return 3.0


SAID: dict[str, Any] = {
    "queue": "mail", "retry": 0, "retry_for": 5.0, "retry_queue": "slow", "dead": False,
    "backtrace": 5, "timeout": 3.0, "expires_in": 60.0, "unique_for": 9.0, "tags": ("x",),
    "backoff": by_three, "max_concurrency": 2, "name": "Post", "aliases": ("Old",),
    "executor": "async",
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), SAID.items())
def test_a_class_attribute_counts_as_a_class_keyword_does(name: str, value: Any) -> None:
    """They were ignored: its jobs went to `default`, with 25 retries."""
    written, keyword = declare({name: value}), declare({}, **{name: value})
    assert written.spec.given == keyword.spec.given
    assert getattr(written.spec.given, name) == value


def test_attributes_are_inherited_and_overridden() -> None:
    class Slow:
        queue: ClassVar[str] = "slow"

    class Mail(Slow, Worker):
        retry = 3
        name = "Post"

        async def perform(self, to: str) -> None: ...

    class Letter(Mail):
        queue = "letters"

    class Parcel(Mail, retry=5):
        pass

    assert (Mail.spec.given.queue, Mail.spec.given.retry, Mail.spec.name) == ("slow", 3, "Post")
    assert (Letter.spec.given.queue, Letter.spec.given.retry) == ("letters", 3)
    assert (Parcel.spec.given.queue, Parcel.spec.given.retry) == ("slow", 5)
    assert Letter.spec.name == "Letter"
    assert Mail.new("x").payload["queue"] == "slow"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"queue": 5}, "queue name 5"),
        ({"retry": "3"}, "retry='3'"),
        ({"max_retries": 3}, r"'max_retries'; did you mean 'retry'\?"),
        ({"queue_name": "x"}, r"'queue_name'; did you mean 'queue'\?"),
        ({"time_limit": 3}, r"'time_limit'; did you mean 'timeout'\?"),
        ({"autoretry_for": ()}, "every exception is retried"),
        ({"timeuot": 3}, r"'timeuot'; did you mean 'timeout'\?"),
        ({"retry_fro": 3}, r"'retry_fro'; did you mean 'retry_for'\?"),
        ({"perform": staticmethod(by_three)}, "perform is a staticmethod: make it a method"),
        ({"perform": classmethod(lambda cls: None)}, "perform is a classmethod: make it a method"),
        ({"__init__": lambda self, mailer: None}, "each job gets an instance made without any"),
    ],
)
def test_a_class_that_can_not_be_meant_is_refused(body: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        declare(body)


def test_an_option_is_said_once() -> None:
    with pytest.raises(ConfigError, match="queue is said twice, as attribute and keyword"):
        declare({"queue": "a"}, queue="b")


def test_what_is_ones_own_may_stand_in_a_class() -> None:
    body = {"template": "x", "_retries": 3, "priority": 5, "helper": by_three, "batch_size": 3}
    assert declare(body).spec.given == declare({}).spec.given


@pytest.mark.parametrize(
    ("name", "hint"),
    [("cron_jobs", "periodics"), ("functions", "workers"), ("on_startup", "async with jobs"),
     ("redis_settings", "redis_url"), ("max_tries", "retry"), ("broker_url", "redis_url"),
     ("beat_schedule", "periodics"), ("result_backend", "reporters"), ("max_jobs", "max_running")],
)  # fmt: skip
def test_an_apps_words_of_other_frameworks_get_the_hint(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}'; .*{hint}"):
        type("Jobs", (App,), {name: [print]})()
    with pytest.raises(ConfigError, match=f"'{name}'; .*{hint}"):
        App(**{name: 5})  # type: ignore[arg-type]


class Depends:
    pass


def test_what_can_not_become_a_worker_is_refused() -> None:
    decorate: Any = worker
    with pytest.raises(ConfigError, match=r"@worker\('mail'\): options have names"):
        decorate("mail")
    with pytest.raises(ConfigError, match=r"@worker on class Depends: subclass kiqpy.Worker"):
        decorate(Depends)
    with pytest.raises(ConfigError, match=r"on method .*Shop\.send: there is no self"):

        class Shop:
            @worker
            async def send(self, to: str) -> None: ...

    with pytest.raises(ConfigError, match=r"db=Depends\(\.\.\.\): nothing is injected"):

        @worker
        async def send(to: str, db: Depends = Depends()) -> None: ...  # noqa: B008


def test_a_child_process_must_find_its_function() -> None:
    with pytest.raises(ConfigError, match='executor="process" needs a function or class at the'):

        @worker(executor="process")
        def inner() -> None: ...

    with pytest.raises(ConfigError, match='executor="process" needs a function or class at the'):
        worker(executor="process", name="x")(lambda: None)


def test_a_module_without_workers_is_refused() -> None:
    with pytest.raises(ConfigError, match="workers: module empty holds no worker"):
        App(workers=[types.ModuleType("empty")])


@pytest.mark.parametrize("name", ["handle_succes", "handle_start", "handle_fail", "listen_to"])
def test_a_reporters_misspelt_method_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"Mine.{name} would never be called; did you mean"):
        type("Mine", (Reporter,), {name: lambda self, job: None})
    type("Mine", (Reporter,), {f"_{name}": print, "handle_page": print, "client": 5})


class Forgot:
    def handle_success(self, job: object, meta: object) -> None: ...


class Needs(Reporter):
    def __init__(self, client: object) -> None: ...


def test_a_reporter_that_is_none_is_refused() -> None:
    for given in (Forgot, Forgot(), object):
        with pytest.raises(ConfigError, match="is no Reporter: subclass"):
            App(reporters=[given])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="Needs needs arguments: give an instance"):
        App(reporters=[Needs])
