"""The child that draws learning curves: `python -m services.drawing png|svg`, JSON in, picture out."""

import io
import json
import math
import resource
import sys
import tempfile
from os import environ

MEMORY_BYTES = 2_000_000_000
CPU_SECONDS = 50


def main(kind: str) -> int:
    """Read one request from stdin and write one picture to stdout."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    request = json.load(sys.stdin)
    sys.stdout.buffer.write(draw(request["title"], request["epoch"], request["history"], kind))
    return 0


def draw(title: str, epochs: list[int], history: dict[str, list[float | None]], kind: str) -> bytes:
    """One panel for each metric, training and validation in it. Epochs are shown from 1, as people count."""
    # Matplotlib wants a folder for its font cache; without a home it would make one and warn.
    environ.setdefault("MPLCONFIGDIR", tempfile.gettempdir() + "/matplotlib")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = [name for name in history if not name.startswith("val_")] or ["loss"]
    figure = Figure(figsize=(6.4 * len(names), 4.4), layout="constrained")
    figure.suptitle(title)
    for number, name in enumerate(names, 1):
        axes = figure.add_subplot(1, len(names), number)
        for key, label, style in ((name, "training", "-"), (f"val_{name}", "validation", "--")):
            if key in history:
                values = [math.nan if value is None else value for value in history[key]]
                axes.plot(
                    [epoch + 1 for epoch in epochs], values, style, marker="o", markersize=3, label=label
                )
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if epochs:
            axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format=kind, dpi=150)
    return picture.getvalue()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
