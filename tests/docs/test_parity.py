"""docs/parity.md has every row, each with a state and with tests that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "parity.md"

_CALLS = """
queues remove_queue queue_size jobs find_job remove_job remove_enqueued_jobs retries retry_size
find_retry remove_retry remove_retry_jobs dequeue_retry_jobs retry_job clear_retries scheduled
scheduled_with_scores scheduled_size find_scheduled remove_scheduled remove_scheduled_jobs
dequeue_scheduled_jobs clear_scheduled failed failed_size find_failed remove_failed
remove_failed_jobs dequeue_failed_jobs clear_failed busy nodes processes clear_processes stats
realtime_stats send_signal
Queue.count Queue.clear Queue.range Queue.delete_job DeadSet.add
"""

# Every row of the ancestors' feature tables, section by section.
ROWS: dict[str, list[str]] = {
    "1.1": [
        "How configured", "Redis connection", "Key prefix", "Instance name", "Queues",
        "Connection pool", "Poll / fetch", "Scheduler", "Client flush", "Server switch / mode",
        "Retry default", "Dead set", "Node identity", "Heartbeat", "Leader election", "Periodic",
        "Reporters/middleware", "Stats", "Serialization", "Log levels", "Shutdown", "Cleaner",
        "Concurrency (global)", "Test mode", "Option validation",
    ],
    "1.2": [
        "Enqueue now", "Delay", "At time", "Bulk atomic", "Caller chosen id", "Generated id",
        "Per-job retries", "Other per-job", "Without worker module", "Batches",
    ],
    "1.3": [
        "Definition", "Result meaning", "Job isolation", "Current job access", "Expiring jobs",
        "Timeout per job", "Cancel running job", "Snooze",
        "Process death (kill) handled as failure", "Undecodable payload",
    ],
    "1.4": [
        "Delay", "Retry limit test", "When exhausted", "Fields set on failure",
        "Retry state location", "Dead trimming",
    ],
    "1.5": [
        "Option units", "`unique_until`", "Token", "Lock key/value", "Lock time for scheduled",
        "Conflict visible to caller", "Unlock at start", "Unlock at success",
        "Owner check on unlock", "Dead job", "Expired / aborted job", "API removal", "PR open",
    ],
    "1.6": [
        "In-progress store", "Fetch", "Ack", "Recovery: same node", "Recovery: other nodes",
        "Order kept on recovery", "Clean shutdown cleanup",
    ],
    "1.7": [
        "Counters", "Process registry", "Live queries", "Telemetry", "Reporter callbacks", "Logs",
        "Metrics companion",
    ],
    "1.8": [
        "Quiet", "Per-queue pause", "Add/remove queue", "Wake-up", "Clear all", "Shutdown order",
        "Stop API", "Rate limiting",
    ],
    "1.9": [
        *(f"`{call}`" for call in _CALLS.split()),
        "`RetrySet, SortedSet, DeadSet.count`", "`RetrySet, SortedSet, DeadSet.clear`",
        "`RetrySet, SortedSet, DeadSet.range`", "`RetrySet, SortedSet, DeadSet.delete_job`",
        "`RetrySet, SortedSet.range_with_score`", "`RetrySet, SortedSet.requeue_job`",
        "`send_signal`: CANCEL", "Page options", "Bang forms",
    ],
    "1.10": [
        "Schedule syntax", "Matching", "Who fires", "Missed runs", "Options per entry", "Control",
        "DST", "Config", 'Leader ("Senator")',
    ],
    "1.11": ["Local", "Global", "GCRA", "And", "Telemetry"],
    "1.12": ["`new`", "`add`", "`create`", "Callback job", "Config", "Events"],
    "1.13": ["exq_ui", "verk_web"],
    "1.14": ["Test store", "Assertions", "Generators", "CLI"],
    "1.15": ["K", "E", "V", "T", "Q"],
    "1.16": [
        "Order", "A retry blocks what is behind it", "A later scheduled job blocks none before it",
        "Which queues are offered", "Lock", "Success, failure", "Attempts exhausted", "Timeout",
        "Crash of a job", "Cancel", "Done jobs are kept",
    ],
}  # fmt: skip

# Every option name of every column of 1.1.
OPTIONS: dict[str, str] = {
    "Redis connection": "client_opts redis_url host port database password url redis_options "
    "sentinel socket_opts redis_timeout genserver_timeout redis_url_provider repo",
    "Key prefix": "namespace redis_key_prefix scope",
    "Instance name": "name client_name pool_name registry_name reporter_name senator_name",
    "Queues": "queues concurrency :infinite",
    "Connection pool": "pool_size",
    "Poll / fetch": "fetch_interval poll_timeout workers_manager_timeout poll_interval",
    "Scheduler": "schedulers scheduler_enable scheduler_poll_timeout scheduler_page_size "
    "poll_interval delay_flush_interval",
    "Client flush": "flush_interval",
    "Server switch / mode": "server? mode start_on_application disable_import disable? queues",
    "Retry default": "retry max_retries max_retry_count max_attempts backoff retry_at/2 "
    "retry_strategy",
    "Dead set": "dead_limit dead_timeout dead_max_jobs dead_timeout_in_seconds max_dead_jobs",
    "Node identity": "identity node_identifier node_id generate_node_id local_node_id",
    "Heartbeat": "stats_flush_interval heartbeat_enable heartbeat_interval "
    "missed_heartbeats_allowed heartbeat keepalive_interval keepalive_expiration "
    "takeover_interval job_import_interval",
    "Leader election": "elect_ttl",
    "Periodic": "periodics",
    "Reporters/middleware": "reporters extra_reporters middleware",
    "Stats": "stats_flush_interval stats_batch_size",
    "Serialization": "serializer json_library args_keys failed_job_stacktrace_size",
    "Log levels": "start_job_log_level done_job_log_level fail_job_log_level",
    "Shutdown": "shutdown_timeout",
    "Cleaner": "cleanup_interval job_retention job_cleaner_max_initial_delay",
    "Concurrency (global)": "max_concurrency number_of_concurrent_jobs",
    "Test mode": "test_mode queue_adapter",
}

_STATE = re.compile(r"kept|(changed|comes later|not kept) \(.+\).*")


class Row(NamedTuple):
    section: str
    title: str
    theirs: str
    here: str
    state: str
    tests: list[str]


def rows(text: str) -> Iterator[Row]:
    """The lines of all tables but their heads."""
    section = ""
    for line in text.splitlines():
        if found := re.match(r"## (1\.\d+)", line):
            section = found[1]
        if line.startswith("| ") and not line.startswith("| row "):
            cells = [cell.strip() for cell in line.strip().removeprefix("|")[:-1].split("|")]
            assert len(cells) == 5, line
            title, theirs, here, state, tests = cells
            yield Row(section, title, theirs, here, state, re.findall(r"`(tests/[^`]+)`", tests))


def missing(found: list[Row]) -> list[str]:
    """Rows and options that there must be and are not."""
    titles = {(row.section, row.title) for row in found}
    gone = [f"{of} {title}" for of, all_ in ROWS.items() for title in all_
            if (of, title) not in titles]  # fmt: skip
    names = {
        title: " ".join(row.title for row in found if row.title.startswith(f"{title}: "))
        for title in OPTIONS
    }
    return gone + [
        f"1.1 {title}: {name}"
        for title, wanted in OPTIONS.items()
        for name in wanted.split()
        if f"`{name}`" not in names[title]
    ]


def unproved(found: list[Row]) -> list[str]:
    """Rows that say nothing, or that something is there and not what proves it."""
    bad = [row.title for row in found if not _STATE.fullmatch(row.state)]
    proved = [row for row in found if row.state == "kept" or row.state.startswith("changed")]
    return bad + [f"{row.section} {row.title}" for row in proved if not row.tests or not row.here]


def strangers(found: list[Row]) -> list[str]:
    """Tests that are named and do not exist."""
    named = {test for row in found for test in row.tests}
    known = {file: functions(ROOT / file) for file in {test.split("::")[0] for test in named}}
    return sorted(
        test for test in named if test.split("::", 1)[1] not in known[test.split("::")[0]]
    )


def functions(path: Path) -> set[str]:
    """`test_x` and `TestY::test_x` of a file."""
    if not path.is_file():
        return set()
    tree = ast.parse(path.read_text("utf-8"))
    of_classes = [
        f"{kind.name}::{name}"
        for kind in tree.body
        if isinstance(kind, ast.ClassDef)
        for name in _tests(kind)
    ]
    return {*_tests(tree), *of_classes}


def _tests(tree: ast.Module | ast.ClassDef) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name[:5] == "test_":
            yield node.name


ALL = list(rows(PAGE.read_text("utf-8")))


def test_no_row_is_missing() -> None:
    assert missing(ALL) == []


def test_every_row_has_a_state_and_what_is_there_has_a_proof() -> None:
    assert unproved(ALL) == []


def test_every_test_that_is_named_exists() -> None:
    assert strangers(ALL) == []


def test_no_row_is_there_twice() -> None:
    titles = [(row.section, row.title) for row in ALL]
    assert sorted({title for title in titles if titles.count(title) > 1}) == []


def test_blocking_queues_are_told_of() -> None:
    text = PAGE.read_text("utf-8")
    told = text.split("## 1.16 Blocking queues", 1)[1].split("\n## ", 1)[0]
    assert re.search(r"comes? later", told)


def test_every_parity_test_is_named_on_the_page() -> None:
    """Else a proof is there that nobody finds."""
    named = {test for row in ALL for test in row.tests}
    written = {
        f"tests/parity/{path.name}::{name}"
        for path in (ROOT / "tests" / "parity").glob("test_*.py")
        for name in functions(path)
    }
    assert sorted(written - named) == []


@pytest.mark.parametrize(
    ("line", "check", "complaint"),
    [
        ("| X | K | x | | `tests/docs/test_parity.py::test_no_row_is_missing` |", unproved, "X"),
        ("| X | K | x | kept | |", unproved, "1.1 X"),
        ("| X | K | x | changed | `tests/docs/test_parity.py::a` |", unproved, "X"),
        ("| X | K | x | kept | `tests/docs/test_parity.py::test_x` |", strangers, "test_x"),
        ("| X | K | x | kept | `tests/none.py::test_x` |", strangers, "none.py"),
        ("| Queues: `queues` | K | x | kept | |", missing, "1.1 Queues: concurrency"),
    ],
)
def test_what_is_wrong_is_found(line: str, check: object, complaint: str) -> None:
    assert callable(check)
    assert any(complaint in told for told in check(list(rows(f"## 1.1 Options\n{line}\n"))))
