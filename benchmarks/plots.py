"""Pictures of reports, as SVG; the same report gives the same file."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.engine import LIMIT, ratios

COLOURS = ("#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#009e73", "#8fd3b6", "#cc79a7", "#999999")
"""Okabe and Ito's, which the colour-blind can tell apart."""
BAR = 0.8

Report = dict[str, Any]


def engine(report: Report, path: Path) -> None:
    """Multiples of the limit: a group of bars for each race."""
    races = report["races"]
    names = [one["contender"] for one in races[0]["epochs"] if one["contender"] != LIMIT]
    figure = Figure(figsize=(8, 0.9 + 0.16 * len(races) * (len(names) + 2)))
    axes = figure.add_subplot()
    height = BAR / len(names)
    for place, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
        tops = [number + place * height for number in range(len(races))]
        axes.barh(tops, [ratios(race)[name][1] for race in races], height, color=colour, label=name)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    labels = [f"{race['workload']}\nbatch {race['batch_size']}" for race in races]
    axes.set_yticks([number + BAR / 2 for number in range(len(races))], labels)
    axes.invert_yaxis()
    axes.set_xlabel("seconds an epoch / seconds of its matrix products alone")
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.6 / figure.get_figheight()), ncols=3, fontsize="small"
    )
    _save(figure, path)


def end_to_end(report: Report, path: Path) -> None:
    """Seconds: one panel for each training."""
    trainings = report["trainings"]
    figure = Figure(figsize=(8, 0.8 + 0.9 * len(trainings)))
    for number, training in enumerate(trainings):
        axes = figure.add_subplot(len(trainings), 1, number + 1)
        names = list(training["taken"])
        walls = [training["taken"][name]["wall"] for name in names]
        medians = [wall["median"] for wall in walls]
        ends = [[w["median"] - w["low"] for w in walls], [w["high"] - w["median"] for w in walls]]
        axes.barh(names, medians, xerr=ends, color=COLOURS[2::-1][: len(names)], height=BAR)
        axes.invert_yaxis()
        axes.set_title(f"{training['training']}, {training['epochs']} epochs", loc="left", fontsize="medium")
    axes.set_xlabel("seconds")
    _save(figure, path)


def growth(report: Report, path: Path) -> None:
    """Time and memory against size, both axes logarithmic."""
    figure = Figure(figsize=(8, 3.6))
    for number, series in enumerate(report["series"]):
        axes = figure.add_subplot(1, len(report["series"]), number + 1)
        sizes = [point["size"] for point in series["points"]]
        times = [point["seconds"]["median"] for point in series["points"]]
        memory = [point["memory_mb"] / 1000 for point in series["points"]]
        time_label = f"seconds an epoch, exponent {series['exponent_of_time']:.2f}"
        memory_label = f"memory in GB, exponent {series['exponent_of_memory']:.2f}"
        axes.loglog(sizes, times, "o-", color=COLOURS[0], label=time_label)
        axes.loglog(sizes, memory, "s--", color=COLOURS[2], label=memory_label)
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set_xlabel(series["what"])
        axes.legend(fontsize="small")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    # Without these two a new file would differ each time.
    with mpl.rc_context({"svg.hashsalt": "trainshed"}):
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
