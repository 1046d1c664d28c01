"""Fills docs/benchmarks.md and draws docs/benchmarks/*.svg from the JSON files: `make bench-report`.

Every figure on the page stands between two marks and comes from a JSON file, so that text and figures cannot
part. A benchmark without a JSON file keeps what the page says.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import end_to_end, growth, overhead, plots, throughput
from benchmarks.engine import LIMIT, STOCK, ratios
from benchmarks.machine import said
from benchmarks.results import FOLDER
from benchmarks.table import markdown_table, seconds, times

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "benchmarks.md"
PICTURES = DOCS / "benchmarks"
OWN = "Trainshed "

Report = dict[str, Any]


def main() -> None:
    """Rewrite what stands between the marks."""
    page = PAGE.read_text()
    PICTURES.mkdir(exist_ok=True)
    for name, section in SECTIONS.items():
        path = FOLDER / f"{name}.json"
        if path.exists():
            report = json.loads(path.read_text())
            page = filled(page, name, f"{where(report)}\n\n{section(report)}")
            print(f"{name}: from {path}")
    PAGE.write_text(page)
    print(PAGE)


def filled(page: str, name: str, text: str) -> str:
    """The page with a text between the marks of this name. Raises ValueError without such marks."""
    marks = re.compile(f"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    if not marks.search(page):
        raise ValueError(f"the page has no marks for {name}")
    return marks.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page)


def where(report: Report) -> str:
    """Where and when it was measured, and with what."""
    versions = ", ".join(f"{name} {text}" for name, text in report.get("versions", {}).items())
    text = f"Measured {report['began']} on {said(report['machine'])}; load afterwards {report['load_after']}."
    return text + (f" {versions}." if versions else "")


def engine_section(report: Report) -> str:
    """A table for each workload, and who was faster where."""
    plots.engine(report, PICTURES / "engine.svg")
    names = list(dict.fromkeys(race["workload"] for race in report["races"]))
    parts = ["![Seconds of an epoch as multiples of the limit](benchmarks/engine.svg)"]
    for name in names:
        races = [race for race in report["races"] if race["workload"] == name]
        drawn = "" if races[0]["has_real_data"] else " The rows are drawn at random."
        parts.append(f"**{name}**: {races[0]['about']}.{drawn}\n\n{_by_batch(races)}")
    missing = report["not_installed"]
    parts += [f"Not installed in this run: {', '.join(missing)}."] if missing else []
    return "\n\n".join([*parts, "Trainshed's faster engine against the fastest other:", standing(report)])


def _by_batch(races: Sequence[Report]) -> str:
    head = ["seconds an epoch (× of the limit)", *(f"batch {race['batch_size']}" for race in races)]
    names = [epoch["contender"] for epoch in races[0]["epochs"]]
    return markdown_table(head, [[name, *(_cell(race, name) for race in races)] for name in names])


def _cell(race: Report, name: str) -> str:
    epoch = next(one for one in race["epochs"] if one["contender"] == name)
    taken = seconds(epoch["seconds"]["median"])
    # Time on the clock without CPU time is another's use of the machine.
    used = f"{seconds(epoch['cpu_seconds']['median'])} of CPU"
    if "by" in epoch:
        return f"{taken}, {used}, {epoch['by']}"
    return f"{taken} ({times(ratios(race)[name][1])}), {used}"


def standing(report: Report) -> str:
    """Wins and losses: a row for each race."""
    head = ["", "Trainshed", "fastest other", "Trainshed takes", "of model.fit"]
    return markdown_table(head, [_standing(race) for race in report["races"]])


def _standing(race: Report) -> list[str]:
    medians = {epoch["contender"]: epoch["seconds"]["median"] for epoch in race["epochs"]}
    own = min((name for name in medians if name.startswith(OWN)), key=lambda name: medians[name])
    others = [name for name in medians if not name.startswith(OWN) and name != LIMIT]
    other = min(others, key=lambda name: medians[name])
    ratio = medians[own] / medians[other]
    verdict = f"{times(ratio)}, slower" if ratio > 1 else times(ratio)
    return [
        f"{race['workload']}, batch {race['batch_size']}",
        f"{own.removeprefix(OWN)} {seconds(medians[own])}",
        f"{other} {seconds(medians[other])}",
        verdict,
        times(medians[own] / medians[STOCK]),
    ]


def end_to_end_section(report: Report) -> str:
    """A table for each training."""
    plots.end_to_end(report, PICTURES / "end_to_end.svg")
    parts = ["![Seconds from nothing to a model in MLflow](benchmarks/end_to_end.svg)"]
    for training in report["trainings"]:
        title = f"**{training['training']}**, {training['epochs']} epochs"
        parts.append(f"{title}\n\n{markdown_table(end_to_end.HEAD, end_to_end.rows_of(training))}")
    return "\n\n".join(parts)


def overhead_section(report: Report) -> str:
    """Two tables for each job."""
    parts = []
    for case in report["cases"]:
        title = f"**{case['case']}**, {case['epochs']} epochs; the time of all but the first"
        parts.append(f"{title}\n\n{markdown_table(overhead.HEAD, overhead.rows_of(case))}")
        memory = markdown_table(overhead.MEMORY_HEAD, overhead.memory_rows_of(case))
        parts.append(f"Peak memory of the service's processes meanwhile:\n\n{memory}")
    return "\n\n".join(parts)


def throughput_section(report: Report) -> str:
    """One table."""
    return markdown_table(throughput.HEAD, throughput.rows_of(report["ways"]))


def growth_section(report: Report) -> str:
    """A table for each series."""
    plots.growth(report, PICTURES / "growth.svg")
    tables = [
        f"With {series['what']}:\n\n{markdown_table(growth.HEAD, growth.rows_of(series))}"
        for series in report["series"]
    ]
    return "\n\n".join(["![Time and memory against size](benchmarks/growth.svg)", *tables])


def start_section(report: Report) -> str:
    """Seconds and megabytes."""
    taken = [(name, seconds(one["median"]), seconds(one["high"])) for name, one in report["seconds"].items()]
    memory = [(name, f"{size:.0f}") for name, size in report["memory_mb"].items()]
    tables = markdown_table(("", "median", "max"), taken), markdown_table(("process", "PSS, MB"), memory)
    return "\n\n".join(tables)


SECTIONS: dict[str, Callable[[Report], str]] = {
    "engine": engine_section,
    "end_to_end": end_to_end_section,
    "overhead": overhead_section,
    "throughput": throughput_section,
    "growth": growth_section,
    "start": start_section,
}

if __name__ == "__main__":
    main()
