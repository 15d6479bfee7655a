"""What the demo says at the end. All of it is read from the results on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from kiqpy.demo.results import Results, Run
from kiqpy.demo.run import PROCESSES, Work
from kiqpy.demo.worker import RETRIES

_LONGEST: Final = 10
_SHOWN: Final = 60


class Function(NamedTuple):
    """A long one."""

    lines: int
    name: str
    path: str
    line: int


class Failed(NamedTuple):
    """A file whose job is dead."""

    path: str
    reason: str


class Report(NamedTuple):
    """Totals of a whole run; speed and rescue of its last start."""

    run: str
    starts: int
    folder: str
    files: int
    parsed: int
    failed: int
    lines: int
    functions: int
    imports: int
    longest: list[Function]
    failures: list[Failed]
    files_now: int
    rescued_now: int
    seconds_now: float
    jobs_per_s: float
    wait_p50_s: float
    wait_p99_s: float
    loop_late_ms: float
    database: str


def make(results: Results, run: Run, work: Work) -> Report:
    """Read the results of a finished run."""
    counts, waits = results.counts(), results.waits()
    lines, functions, imports = results.totals()
    return Report(
        run=run.id,
        starts=run.starts,
        folder=results.folder(),
        files=sum(counts.values()),
        parsed=counts["done"],
        failed=counts["dead"],
        lines=lines,
        functions=functions,
        imports=imports,
        longest=[Function(*row) for row in results.longest(_LONGEST)],
        failures=[Failed(*row) for row in results.failures()],
        files_now=work.files,
        rescued_now=work.rescued,
        seconds_now=round(work.seconds, 3),
        jobs_per_s=round(work.files / work.seconds, 1) if work.seconds else 0.0,
        wait_p50_s=percentile(waits, 50),
        wait_p99_s=percentile(waits, 99),
        loop_late_ms=round(work.late_ms, 1),
        database=results.path,
    )


def as_values(report: Report) -> dict[str, Any]:
    """For JSON."""
    values = report._asdict()
    values["longest"] = [function._asdict() for function in report.longest]
    values["failures"] = [failed._asdict() for failed in report.failures]
    return values


def percentile(ascending: list[float], percent: int) -> float:
    """The value that so many percent of the others do not exceed."""
    if not ascending:
        return 0.0
    return round(ascending[min(len(ascending) - 1, len(ascending) * percent // 100)], 4)


def as_text(report: Report) -> str:
    """For people."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
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


def _longest(report: Report, home: str) -> Iterator[str]:
    if report.longest:
        yield ""
        yield "The ten longest functions"
    for function in report.longest:
        place = f"{_short(function.path, home)}:{function.line}"
        yield f"  {function.lines:>6,} lines  {function.name:<34} {place}"


def _failures(report: Report, home: str) -> Iterator[str]:
    if report.failures:
        yield ""
        yield f"Failed {RETRIES + 1} times each, now in the dead set"
    for failed in report.failures[:_SHOWN]:
        yield f"  {_short(failed.path, home)}"
        yield f"      {failed.reason}"
    if len(report.failures) > _SHOWN:
        yield f"  and {len(report.failures) - _SHOWN:,} more"


def _speed(report: Report) -> Iterator[str]:
    yield ""
    yield (
        f"{report.files_now:,} files in {report.seconds_now:.1f} s, {PROCESSES} processes: "
        f"{report.jobs_per_s:,.0f} jobs/s"
    )
    if report.rescued_now:
        yield f"{report.rescued_now} jobs of the start that was killed were taken over"
    yield (
        f"enqueue to start: p50 {_seconds(report.wait_p50_s)}, p99 {_seconds(report.wait_p99_s)} "
        "(all files are enqueued at once)"
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
