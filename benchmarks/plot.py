"""One picture of a run: `python -m benchmarks.plot RESULT.json OUT.svg`."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "kiqpy", "font.size": 8}

from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.ticker import NullFormatter  # noqa: E402

from benchmarks.plan import HIGHER  # noqa: E402

PANELS = (
    ("drain: its best limit (kiqpy 1,000)", "jobs_per_s", "no-op jobs processed, jobs/s"),
    ("drain: its best limit (kiqpy 1,000)", "cpu_us_per_job", "CPU of a no-op job, µs"),
    ("enqueue: one by one", "jobs_per_s", "enqueued one by one, jobs/s"),
    ("latency: idle", "p50_ms", "idle, enqueue to body, p50 ms"),
)
COLOURS = {"ours": "#c0392b", "bare": "#7f8c8d", "async": "#2980b9", "sync": "#a9cce3"}
Bar = tuple[float, str, float, float]  # median, party, smallest, largest


def bars(results: list[dict[str, Any]], measure: str, figure: str) -> list[Bar]:
    """Who has the figure, the best first."""
    found: list[Bar] = []
    for result in results:
        values = [run[figure] for run in result["runs"] if figure in run]
        if result["measure"] == measure and values:
            bar = (statistics.median(values), result["party"], min(values), max(values))
            found.append(bar)
    return sorted(found, reverse=figure in HIGHER)


def colour(party: str, kinds: dict[str, str]) -> str:
    if party.startswith("kiqpy"):
        return COLOURS["ours"]
    return COLOURS["bare"] if party.startswith("bare") else COLOURS[kinds[party]]


def draw(result: Path, out: Path) -> Path:
    """Write the picture of a result; returns where."""
    saved = json.loads(result.read_text())
    about, results = saved["about"], saved["results"]
    panels = [(bars(results, m, f), title) for m, f, title in PANELS]
    panels = [(found, title) for found, title in panels if found]
    if not panels:
        return out
    rows = max(len(found) for found, _ in panels)
    figure, axes = plt.subplots(1, len(panels), figsize=(3.2 * len(panels), 0.6 + 0.17 * rows),
                                squeeze=False, layout="constrained")  # fmt: skip
    for axis, (found, title) in zip(axes[0], panels, strict=True):
        _panel(axis, found, title, about["kinds"])
    server = about["server"].split(",")[0]
    figure.suptitle(f"kiqpy {about['revision']}, {about['date']}, {about['cores']} cores, "
                    f"Python {about['python']}, {server}; pale: functions in threads")  # fmt: skip
    figure.savefig(out, metadata={"Date": None})
    plt.close(figure)
    return out


def _panel(axis: Any, found: list[Bar], title: str, kinds: dict[str, str]) -> None:
    names = [party for _, party, _, _ in found]
    medians = [median for median, *_ in found]
    below = [median - least for median, _, least, _ in found]
    above = [most - median for median, _, _, most in found]
    axis.barh(names, medians, xerr=[below, above], color=[colour(name, kinds) for name in names],
              error_kw={"lw": 0.7})  # fmt: skip
    axis.set_xscale("log")
    axis.set_xlim(left=min(medians) / 8)  # the text fits into the shortest bar
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.invert_yaxis()
    axis.set_title(title, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    for n, median in enumerate(medians):
        text = f"{median:,.0f}" if median >= 100 else f"{median:.3g}"
        axis.annotate(text, (medians[n], n), xytext=(-3, 0), textcoords="offset points",
                      va="center", ha="right", color="white", fontsize=6)  # fmt: skip


if __name__ == "__main__":
    print(draw(Path(sys.argv[1]), Path(sys.argv[2])))
