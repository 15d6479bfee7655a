"""Tables of a run: medians, smallest and largest values, ratios of pairs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any, Final

from benchmarks.plan import HIGHER, MEASURES, UNITS, Measure
from benchmarks.rounds import Figures, Result

KINDS: Final = ("async", "sync")
Results = dict[str, dict[str, Result]]  # by measure, then by party


def by_measure(results: Iterable[Result]) -> Results:
    found: Results = {}
    for result in results:
        found.setdefault(result.measure, {})[result.party] = result
    return found


def values(runs: Sequence[Figures], figure: str) -> list[float]:
    return [run[figure] for run in runs if figure in run]


def shown(found: Sequence[float]) -> str:
    """`median (smallest-largest)`, or the one value."""
    if not found:
        return "-"
    middle = number(statistics.median(found))
    return middle if len(found) == 1 else f"{middle} ({number(min(found))}-{number(max(found))})"


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def ratios(ours: Sequence[Figures], theirs: Sequence[Figures], figure: str) -> list[float]:
    """One for each round: both ran within the same minute."""
    pairs = zip(values(ours, figure), values(theirs, figure), strict=False)
    return [a / b for a, b in pairs if b]


def best_peer(
    results: dict[str, Result], figure: str, ours: Sequence[str], kinds: dict[str, str], kind: str
) -> str | None:
    """The peer of a kind with the best median."""
    medians = {
        name: statistics.median(found)
        for name, result in results.items()
        if name not in ours and kinds.get(name) == kind and (found := values(result.runs, figure))
    }
    if not medians:
        return None
    return (max if figure in HIGHER else min)(medians, key=lambda name: medians[name])


def tables(results: Results, about: dict[str, Any]) -> str:
    """Everything, in Markdown."""
    done = [measure for measure in MEASURES if measure.key in results]
    groups = list(dict.fromkeys(measure.group for measure in done))
    parts = [_group(group, [m for m in done if m.group == group], results) for group in groups]
    return "\n\n".join([*parts, *_growth(results), _ratios(done, results, about)])


def _group(group: str, measures: Sequence[Measure], results: Results) -> str:
    columns = [(measure, figure) for measure in measures for figure in measure.shown]
    parties = list(dict.fromkeys(name for m in measures for name in results[m.key]))
    lines = [
        f"## {group}\n",
        _row(["party", *(f"{measure.title}, {UNITS[figure]}" for measure, figure in columns)]),
        _row(["---"] * (len(columns) + 1)),
    ]
    rows = (
        [name, *(_cell(results[m.key].get(name), m, f) for m, f in columns)] for name in parties
    )
    return "\n".join([*lines, *map(_row, rows)])


def _cell(result: Result | None, measure: Measure, figure: str) -> str:
    if result is None:
        return ""
    if not result.runs:  # the reason stands once, in the measure's first column
        return result.trouble if figure == measure.shown[0] else ""
    late = f" (then: {result.trouble})" if result.trouble and figure == measure.shown[0] else ""
    return shown(values(result.runs, figure)) + late


def per_tenfold(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """By what the cost is multiplied for each tenfold: 1 is flat, 10 is linear."""
    decades = math.log10(sizes[-1] / sizes[0])
    return float((costs[-1] / costs[0]) ** (1 / decades))


def _growth(results: Results) -> list[str]:
    """What ten times more queued jobs, queues or scheduled jobs do to the cost of one job."""
    found: dict[str, dict[int, float]] = {}
    for measure in (m for m in MEASURES if m.group == "growth" and m.key in results):
        size, what = measure.title.split()
        for result in results[measure.key].values():
            if cost := values(result.runs, measure.shown[0]):
                found.setdefault(what, {})[int(size.replace(",", ""))] = statistics.median(cost)
    rows = [
        _row([what, " ".join(f"{n:,}: {cost:.3g}" for n, cost in costs.items()),
              f"x {per_tenfold(list(costs), list(costs.values())):.2f}"])
        for what, costs in found.items() if len(costs) > 1
    ]  # fmt: skip
    head = [_row(["more", "CPU µs of a job", "for each tenfold"]), _row(["---"] * 3)]
    return ["\n".join(["## slopes\n", *head, *rows])] if rows else []


def _ratios(measures: Sequence[Measure], results: Results, about: dict[str, Any]) -> str:
    """kiqpy by the bare loop, and by the best peers, of each measure's first figures."""
    ours, kinds = about["ours"], about["kinds"]
    heads = ["measure", "kiqpy / bare", "fast / bare fast"]
    heads += [f"{us} / best {kind} peer" for kind in KINDS for us in ("kiqpy", "fast")]
    lines = ["## ratios\n", _row(heads), _row(["---"] * len(heads))]
    for measure in measures:
        for figure in measure.shown[:2]:
            found = results[measure.key]
            cells = [_ratio(found, "kiqpy", "bare", figure)]
            cells.append(_ratio(found, "kiqpy-fast", "bare-fast", figure))
            for kind in KINDS:
                best = best_peer(found, figure, ours, kinds, kind)
                for us in ("kiqpy", "kiqpy-fast"):
                    ratio = _ratio(found, us, best or "", figure)
                    cells.append(f"{ratio} {best}" if best else "")
            if any(cells):
                lines.append(_row([f"{measure.key}, {UNITS[figure]}", *cells]))
    return "\n".join(lines)


def _ratio(found: dict[str, Result], ours: str, theirs: str, figure: str) -> str:
    if ours not in found or theirs not in found:
        return ""
    pairs = ratios(found[ours].runs, found[theirs].runs, figure)
    return shown(pairs) if pairs else ""


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
