"""`python -m benchmarks`: kiqpy, the bare loop and the peers, interleaved, in one run.

python -m benchmarks                                  # all of it
python -m benchmarks --quick                          # a tenth of the jobs, one round
python -m benchmarks --only drain,enqueue --peers saq # some of it; --peers "" for no peer
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import about, parties, plan, report, rounds, server
from benchmarks.peers import PEERS

RESULTS = Path(__file__).parent / "results"
RTT_MS = 1.0
ROUNDS = 2


def options() -> argparse.Namespace:
    groups = ", ".join(dict.fromkeys(measure.group for measure in plan.MEASURES))
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.formatter_class = shape
    parser.add_argument("--peers", default="all", help='names, "all", or "" for none')
    parser.add_argument("--only", default="", help=f"groups of measures: {groups}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the jobs, one round")
    parser.add_argument("--rounds", type=int, default=0, help=f"default {ROUNDS}; quick: 1")
    parser.add_argument("--share", type=float, default=0.0, help="of the jobs; default 1")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the result")
    return parser.parse_args()


def names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def chosen(only: str) -> list[plan.Measure]:
    wanted, known = names(only), {measure.group for measure in plan.MEASURES}
    if unknown := [name for name in wanted if name not in known]:
        raise SystemExit(f"no group is called {unknown[0]!r}; known: {', '.join(sorted(known))}")
    return [measure for measure in plan.MEASURES if not wanted or measure.group in wanted]


@contextlib.contextmanager
def addresses(measures: list[plan.Measure]) -> Iterator[tuple[str, str]]:
    """The server's URL, near and far."""
    with contextlib.ExitStack() as stack:
        near = stack.enter_context(server.server())
        far = any(measure.far for measure in measures)
        yield near, stack.enter_context(server.link(near, RTT_MS)) if far else near


def main() -> None:
    given = options()
    share = given.share or (plan.QUICK if given.quick else 1.0)
    turns = given.rounds or (1 if given.quick else ROUNDS)
    peers = list(PEERS) if given.peers == "all" else names(given.peers)
    who = [*parties.ours(), *parties.peers(peers)]
    measures, began = chosen(given.only), time.monotonic()
    results: list[rounds.Result] = []
    with addresses(measures) as (near, far):
        facts = about.run(near, who, turns, share)
        for measure in measures:
            url = far if measure.far else near
            results += rounds.measured(measure, who, url, turns, share, rounds.on_screen)
    facts["took_s"] = round(time.monotonic() - began)
    print(f"\n\n{report.tables(report.by_measure(results), facts)}\n")
    print(f"Sidekiq: {facts['sidekiq']}.")
    save(given.out, facts, results)


def save(folder: Path, facts: dict[str, Any], results: list[rounds.Result]) -> None:
    """The runs as JSON, and the picture where matplotlib is installed."""
    folder.mkdir(parents=True, exist_ok=True)
    quick = "-quick" if facts["share"] < 1 else ""
    path = folder / f"{facts['date']}-{facts['machine']}{quick}.json"
    rows = [result._asdict() for result in results]
    path.write_text(json.dumps({"about": facts, "results": rows}, indent=1) + "\n")
    print(f"{path}: {facts['took_s']} s", file=sys.stderr)
    try:
        from benchmarks import plot
    except ImportError:
        print("no picture: matplotlib is not installed", file=sys.stderr)
        return
    print(plot.draw(path, path.with_suffix(".svg")), file=sys.stderr)


if __name__ == "__main__":
    main()
