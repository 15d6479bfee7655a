"""The tables of a benchmark run show the right numbers."""

from __future__ import annotations

import pytest

from benchmarks import plan, report
from benchmarks.harness import percentiles
from benchmarks.parties import Party
from benchmarks.rounds import Result, ordered

RATE = "jobs_per_s"


def party(name: str, pace: int = 2_000) -> Party:
    return Party(name, "python", "module", pace, "async", "", {})


def rates(*found: float) -> list[dict[str, float]]:
    return [{RATE: rate} for rate in found]


def test_a_cell_is_the_median_with_the_smallest_and_the_largest() -> None:
    assert report.shown([3000.0, 1000.0, 2000.0]) == "2,000 (1,000-3,000)"
    assert report.shown([1.2345]) == "1.23"
    assert report.shown([]) == "-"


def test_ratios_are_of_pairs_of_one_round() -> None:
    assert report.ratios(rates(10, 30), rates(20, 10), RATE) == [0.5, 3.0]


def test_the_best_peer_is_of_its_kind_and_by_the_figures_direction() -> None:
    found = {
        "kiqpy": Result("m", "kiqpy", 1, [{RATE: 9.0, "p50_ms": 9.0}]),
        "a": Result("m", "a", 1, [{RATE: 2.0, "p50_ms": 1.0}]),
        "b": Result("m", "b", 1, [{RATE: 3.0, "p50_ms": 2.0}]),
        "s": Result("m", "s", 1, [{RATE: 8.0, "p50_ms": 0.5}]),
        "broken": Result("m", "broken", 1, [], "no end"),
    }
    kinds = {"kiqpy": "async", "a": "async", "b": "async", "s": "sync", "broken": "async"}
    assert report.best_peer(found, RATE, ["kiqpy"], kinds, "async") == "b"
    assert report.best_peer(found, "p50_ms", ["kiqpy"], kinds, "async") == "a"
    assert report.best_peer(found, RATE, ["kiqpy"], kinds, "sync") == "s"


def test_percentiles() -> None:
    found = percentiles(n / 1000 for n in range(100))
    assert found == {"p50_ms": pytest.approx(50.0), "p99_ms": pytest.approx(99.0)}


def test_the_order_is_turned_around_so_that_nobody_is_always_first() -> None:
    two = [party("a"), party("b")]
    order = "".join(one.name for n in range(4) for one in ordered(two, n))
    assert order == "abbabaab"


def test_a_slow_party_gets_fewer_jobs_and_ours_all() -> None:
    drain = next(m for m in plan.MEASURES if m.group == "drain" and m.peers)
    assert drain.jobs(party("kiqpy"), 1.0) == 50_000
    assert drain.jobs(party("rq", pace=500), 1.0) == 700
    assert drain.jobs(party("rq", pace=10), 1.0) == drain.least


def test_what_is_flat_and_what_is_linear() -> None:
    assert report.per_tenfold([10, 1000], [5.0, 5.0]) == pytest.approx(1.0)
    assert report.per_tenfold([10, 1000], [5.0, 500.0]) == pytest.approx(10.0)


def test_a_failed_party_stands_in_the_table_with_its_reason() -> None:
    measure = next(m for m in plan.MEASURES if m.key == "drain: limit 25")
    results = report.by_measure([Result(measure.key, "saq", 1, [], "not installed: no network")])
    text = report.tables(results, {"ours": [], "kinds": {}})
    assert "| saq | not installed: no network |" in text
