"""The child that draws: `python -m services.drawing png|svg`, services.pictures.Picture in, picture out."""

import io
import json
import math
import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from os import environ
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEMORY_BYTES = 2_000_000_000
CPU_SECONDS = 50
# Of more classes the counts cannot be read, of even more not each can be named.
MOST_COUNTED = 20
MOST_NAMED = 120
LONGEST_NAME = 20
MOST_PANELS = 12
Matrix = list[list[int]]


def main(kind: str) -> int:
    """Read one request from stdin and write one picture to stdout."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    sys.stdout.buffer.write(draw(json.load(sys.stdin), kind))
    return 0


def draw(request: dict[str, Any], kind: str) -> bytes:
    """The picture as a PNG or an SVG."""
    # Matplotlib wants a folder for its font cache; without a home it would make one and warn.
    environ.setdefault("MPLCONFIGDIR", tempfile.gettempdir() + "/matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    # A dollar in a name is a dollar, and does not begin a formula.
    figure.suptitle(request["title"], parse_math=False)
    DRAWERS[request["picture"]](figure, request)
    picture = io.BytesIO()
    figure.savefig(picture, format=kind, dpi=150)
    return picture.getvalue()


def _draw_curves(figure: "Figure", request: dict[str, Any]) -> None:
    """One panel for each metric, training and validation in it. Epochs are shown from 1, as people count."""
    from matplotlib.ticker import MaxNLocator

    epochs, history = request["epoch"], request["history"]
    names = [name for name in history if not name.startswith("val_")] or ["loss"]
    figure.set_size_inches(6.4 * len(names), 4.4)
    for number, name in enumerate(names, 1):
        axes = figure.add_subplot(1, len(names), number)
        for key, label, style in ((name, "training", "-"), (f"val_{name}", "validation", "--")):
            if key in history:
                values = [math.nan if value is None else value for value in history[key]]
                axes.plot(
                    [epoch + 1 for epoch in epochs], values, style, marker="o", markersize=3, label=label
                )
        axes.set_xlabel("epoch")
        axes.set_ylabel(name, parse_math=False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if epochs:
            axes.legend()


def _draw_confusion(figure: "Figure", request: dict[str, Any]) -> None:
    """A row for each true class, a column for each predicted one; the colour is the share of the row."""
    if "labels" in request:
        _draw_labels(figure, request["labels"])
        return
    names, counts = request["class_names"], request["counts"]
    side = min(max(0.55 * len(names) + 2.4, 4.8), 16.0)
    figure.set_size_inches(side + 1.2, side)
    axes = figure.add_subplot()
    _draw_shares(figure, axes, counts, "share of the true class")
    _name_ticks(axes, names, names, side)
    axes.set(xlabel="predicted class", ylabel="true class")


def _draw_labels(figure: "Figure", labels: list[dict[str, Any]]) -> None:
    """A row for each label: found and missed of those that are there, spared and wrong of the others."""
    kinds = {
        "true_positives": "there,\nfound",
        "false_negatives": "there,\nmissed",
        "true_negatives": "not there,\nspared",
        "false_positives": "not there,\nwrong",
    }
    height = min(max(0.45 * len(labels) + 2.0, 3.2), 16.0)
    figure.set_size_inches(7.6, height)
    axes = figure.add_subplot()
    # Each pair adds up to the rows with, or without, the label.
    counts = [[label[kind] for kind in kinds] for label in labels]
    shares = [_shares(row[:2]) + _shares(row[2:]) for row in counts]
    _draw_cells(figure, axes, counts, shares, "share of the rows with, or without, the label")
    _name_ticks(axes, list(kinds.values()), [label["label"] for label in labels], height)
    axes.set(xlabel="prediction at threshold 0.5", ylabel="label")


def _draw_shares(figure: "Figure", axes: "Axes", counts: Matrix, meaning: str) -> None:
    _draw_cells(figure, axes, counts, [_shares(row) for row in counts], meaning)


def _shares(row: Sequence[int]) -> list[float]:
    return [count / max(sum(row), 1) for count in row]


def _draw_cells(
    figure: "Figure", axes: "Axes", counts: Matrix, shares: list[list[float]], meaning: str
) -> None:
    from matplotlib.colors import PowerNorm

    # The root lets small shares, which are the mistakes, be seen.
    norm = PowerNorm(0.5, 0, 1)
    image = axes.imshow(shares, cmap="Blues", norm=norm, aspect="auto", interpolation="nearest")
    figure.colorbar(image, ax=axes, label=meaning, format="{x:.0%}", shrink=0.6, aspect=25)
    if max(len(counts), len(counts[0])) > MOST_COUNTED:
        return
    for row, (numbers, parts) in enumerate(zip(counts, shares, strict=True)):
        for column, (number, part) in enumerate(zip(numbers, parts, strict=True)):
            if number:
                colour = "white" if part > 0.35 else "black"
                size = 9 if number < 10_000 else 7
                text = f"{number:,}"
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


def _name_ticks(axes: "Axes", columns: Sequence[str], rows: Sequence[str], side: float) -> None:
    for axis, names, rotation in (
        (axes.xaxis, columns, 90 if len(columns) > 4 else 0),
        (axes.yaxis, rows, 0),
    ):
        step = math.ceil(len(names) / MOST_NAMED)
        places = range(0, len(names), step)
        # 72 points an inch; a part of the side goes to names and titles.
        size = min(10.0, 0.75 * side * 72 * 0.8 / len(places))
        labels = [_shortened(names[place]) for place in places]
        axis.set_ticks(places, labels, fontsize=size, rotation=rotation, parse_math=False)


def _shortened(name: str) -> str:
    # Long names often differ at their ends.
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 8]}…{name[-7:]}"


def _draw_scatter(figure: "Figure", request: dict[str, Any]) -> None:
    """One panel a target; on the diagonal the prediction is right."""
    targets = request["targets"][:MOST_PANELS]
    columns = min(len(targets), 3)
    lines = math.ceil(len(targets) / columns)
    figure.set_size_inches(5.0 * columns, 5.0 * lines)
    for number, target in enumerate(targets, 1):
        axes = figure.add_subplot(lines, columns, number)
        true, predicted = target["true"], target["predicted"]
        axes.scatter(true, predicted, s=12, alpha=0.4, linewidths=0)
        if true:
            low, high = min(*true, *predicted), max(*true, *predicted)
            axes.plot([low, high], [low, high], color="black", linewidth=1, linestyle="--")
        axes.set_aspect("equal", adjustable="datalim")
        axes.grid(alpha=0.3)
        axes.set(xlabel="true", ylabel="predicted")
        axes.set_title(f"{_shortened(target['target'])}\n{_agreement(target)}", fontsize=9, parse_math=False)


def _agreement(target: dict[str, Any]) -> str:
    """How well all rows lie on the diagonal, and how many of them are drawn."""
    if target["mean_absolute_error"] is None:
        return "no rows"
    figures = [] if target["r2"] is None else [f"R² {target['r2']:.3f}"]
    figures += [f"mean absolute error {target['mean_absolute_error']:.3g}"]
    return f"{', '.join(figures)}; {len(target['true']):,} of {target['rows']:,} rows drawn"


DRAWERS: dict[str, Callable[["Figure", dict[str, Any]], None]] = {
    "learning-curves": _draw_curves,
    "confusion-matrix": _draw_confusion,
    "predicted-vs-true": _draw_scatter,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
