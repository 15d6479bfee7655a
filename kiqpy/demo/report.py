"""The demo's final report, read from the results on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from kiqpy.demo.results import DemoRun, Results
from kiqpy.demo.run import PROCESSES, StartResult
from kiqpy.demo.worker import RETRIES

_LONGEST_FUNCTIONS: Final = 10
_MAX_FAILURES_SHOWN: Final = 60


class LongFunction(NamedTuple):
    """One of the longest functions."""

    lines: int
    name: str
    path: str
    line: int


class FailedFile(NamedTuple):
    """A file whose job is dead."""

    path: str
    reason: str


class DemoReport(NamedTuple):
    """Totals of the whole run; fields ending in `_now`, and speed, are of its last start."""

    run: str
    starts: int
    folder: str
    files: int
    parsed: int
    failed: int
    lines: int
    functions: int
    imports: int
    longest: list[LongFunction]
    failures: list[FailedFile]
    files_now: int
    rescued_now: int
    seconds_now: float
    jobs_per_s: float
    wait_p50_s: float
    wait_p99_s: float
    loop_late_ms: float
    database: str


def make(results: Results, run: DemoRun, work: StartResult) -> DemoReport:
    """Read the results of a finished run."""
    counts, waits = results.counts(), results.waits()
    lines, functions, imports = results.totals()
    return DemoReport(
        run=run.id,
        starts=run.starts,
        folder=results.folder(),
        files=sum(counts.values()),
        parsed=counts["done"],
        failed=counts["dead"],
        lines=lines,
        functions=functions,
        imports=imports,
        longest=[LongFunction(*row) for row in results.longest(_LONGEST_FUNCTIONS)],
        failures=[FailedFile(*row) for row in results.failures()],
        files_now=work.files,
        rescued_now=work.rescued,
        seconds_now=round(work.seconds, 3),
        jobs_per_s=round(work.files / work.seconds, 1) if work.seconds else 0.0,
        wait_p50_s=percentile(waits, 50),
        wait_p99_s=percentile(waits, 99),
        loop_late_ms=round(work.late_ms, 1),
        database=results.path,
    )


def as_values(report: DemoReport) -> dict[str, Any]:
    """The report as JSON values."""
    values = report._asdict()
    values["longest"] = [function._asdict() for function in report.longest]
    values["failures"] = [failed._asdict() for failed in report.failures]
    return values


def percentile(ascending: list[float], percent: int) -> float:
    """The value that `percent` % of the values do not exceed."""
    if not ascending:
        return 0.0
    return round(ascending[min(len(ascending) - 1, len(ascending) * percent // 100)], 4)


def as_text(report: DemoReport) -> str:
    """The report as text."""
    return "\n".join(_lines(report))


def _lines(report: DemoReport) -> Iterator[str]:
    home = report.folder
    many = f", in {report.starts} starts" if report.starts > 1 else ""
    yield ""
    yield f"The Python files below {home.rstrip(os.sep)}{os.sep}{many}"
    yield ""
    yield f"  files      {report.files:>11,}   {report.parsed:,} parsed, {report.failed:,} failed"
    yield f"  lines      {report.lines:>11,}"
    yield f"  functions  {report.functions:>11,}"
    yield f"  imports    {report.imports:>11,}"
    yield from _longest(report, home)
    yield from _failures(report, home)
    yield from _speed(report)


def _longest(report: DemoReport, home: str) -> Iterator[str]:
    if report.longest:
        yield ""
        yield "The ten longest functions"
    for function in report.longest:
        place = f"{_short(function.path, home)}:{function.line}"
        yield f"  {function.lines:>6,} lines  {function.name:<34} {place}"


def _failures(report: DemoReport, home: str) -> Iterator[str]:
    if report.failures:
        yield ""
        yield f"Failed {RETRIES + 1} times each, now in the dead set"
    for failed in report.failures[:_MAX_FAILURES_SHOWN]:
        yield f"  {_short(failed.path, home)}"
        yield f"      {failed.reason}"
    if (hidden := len(report.failures) - _MAX_FAILURES_SHOWN) > 0:
        yield f"  and {hidden:,} more"


def _speed(report: DemoReport) -> Iterator[str]:
    yield ""
    yield (
        f"{report.files_now:,} files in {report.seconds_now:.1f} s, {PROCESSES} processes: "
        f"{report.jobs_per_s:,.0f} jobs/s"
    )
    if report.rescued_now:
        yield f"{report.rescued_now} jobs were rescued from the start that was killed"
    yield (
        f"enqueue to start: p50 {_seconds(report.wait_p50_s)}, p99 {_seconds(report.wait_p99_s)} "
        "(all jobs are enqueued at once)"
    )
    yield f"event loop: at most {report.loop_late_ms:.0f} ms late"
    yield f"results: {report.database}"


def _seconds(value: float) -> str:
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.1f} s"


def _short(path: str, home: str) -> str:
    try:
        return str(Path(path).relative_to(home))
    except ValueError:
        return path
