"""Answers as rich tables and sentences."""

from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from trainshed.answers import (
    DataProblem,
    Dataset,
    DryRun,
    Evaluation,
    History,
    JobAnswer,
    Look,
    Predicted,
    Queue,
    Upload,
    Version,
)

STYLES = {
    "queued": "yellow", "running": "cyan", "succeeded": "green", "failed": "red", "cancelled": "magenta",
    "ready": "green", "processing": "cyan", "rejected": "red", "available": "dim",
}  # fmt: skip
WIDE = 240  # columns where there is no terminal to be filled: nothing is cut off
ROOMY = 110  # columns
JOB_CUT = frozenset({"name", "metrics", "dataset", "owner"})
SHORT_ID = 8  # digits; the end of an id is its random part


def console_for(*, stderr: bool = False) -> Console:
    """A console on stdout or stderr; tables are never cut to fit a pipe or a file."""
    console = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = WIDE
    return console


def jobs(listed: Sequence[JobAnswer], *, width: int = WIDE) -> RenderableType:
    """One row a job, for a terminal of so many columns."""
    if not listed:
        return Text("No jobs.")
    # Eighty columns hold either a metric's value or whose job it is.
    places = ("dataset", "owner") if width >= ROOMY else ()
    table = _lines("id", "name", "state", "epoch", "age", "metrics", *places, cut=JOB_CUT)
    for job in listed:
        table.add_row(
            short_id(job["id"]), _cut(job["name"]), state(job), _epochs(job),
            _age(job["timings"]["created_at"]), _cut(numbers(_headline(job))),
            *[_cut(where) for where in (job["dataset"]["name"], job["owner"])[: len(places)]],
        )  # fmt: skip
    return table


def job(one: JobAnswer, asked: Sequence[Evaluation] = ()) -> RenderableType:
    """Everything about one job but its spec, with the evaluations that are done."""
    timings = one["timings"]
    rows: dict[str, RenderableType | None] = {
        "id": one["id"],
        "name": Text(one["name"]),
        "state": state(one),
        "why": _text(one["detail"]),
        "waits for": _text(one["queue"]["why"]) if one["queue"] else None,
        "epoch": _epochs(one),
        "metrics": numbers(one["metrics"]) if one["metrics"] else None,
        "best": _best(one),
        "parameters": f"{one['params_count']:,}",
        "dataset": one["dataset"]["name"] + _version(one["dataset"]["version"]),
        "seed": str(one["seed"]),
        "owner": Text(one["owner"]),
        "labels": Text(", ".join(f"{name}:{value}" for name, value in one["labels"].items())),
        "note": _text(one["note"]),
        "priority": str(one["priority"]) if one["priority"] else None,
        "made from": _parent(one),
        "created": timings["created_at"],
        "queued for": seconds(timings["queue_seconds"]),
        "trained for": seconds(timings["train_seconds"]),
        "attempts": str(one["attempts"]),
        "device": one["device"],
        "engine": _engine(one),
        "MLflow": _mlflow(one),
        "evaluations": Text("\n".join(_told(one) for one in asked if one["state"] == "succeeded")),
    }
    return _pairs(rows)


def startup(one: JobAnswer) -> RenderableType:
    """Where the time went until the first epoch of the last attempt was stored."""
    spent = one["timings"]["startup"]
    if not spent:
        return Text("No epoch is finished yet.")
    table = _table("until the first epoch", "seconds", right=True)
    for name, value in spent.items():
        table.add_row(name.replace("_", " "), f"{value:.3f}")
    table.add_row("together", f"{sum(spent.values()):.3f}")
    return table


def history(table_of: History, *, last: int | None = None) -> RenderableType:
    """One row an epoch, only the last ones if asked."""
    columns = table_of["history"]
    if not table_of["epoch"]:
        return Text("No epoch is finished yet.")
    first = 0 if last is None else max(0, len(table_of["epoch"]) - last)
    table = _table("epoch", *columns, right=True)
    for row in range(first, len(table_of["epoch"])):
        # Keras counts epochs from 0, and so do all of our answers; people see Keras's "Epoch 1/30".
        table.add_row(str(table_of["epoch"][row] + 1), *(number(column[row]) for column in columns.values()))
    return table


def evaluation(one: Evaluation) -> RenderableType:
    """The metrics of one evaluation."""
    rows: dict[str, RenderableType | None] = {
        "split": one["split"],
        "state": Text(one["state"], STYLES.get(one["state"], "")),
        "why": _text(one["detail"]),
        "rows": None if one["rows"] is None else f"{one['rows']:,}",
        "looks before": None if one["looks_before"] is None else str(one["looks_before"]),
    }
    metrics: dict[str, RenderableType | None] = {
        name: number(value) for name, value in (one["metrics"] or {}).items()
    }
    return _pairs(rows | metrics)


def evaluations(asked: Sequence[Evaluation]) -> RenderableType:
    """One row an evaluation."""
    if not asked:
        return Text("Nobody has asked for an evaluation.")
    table = _table("split", "state", "rows", "metrics", "looks before", "when")
    table.columns[-1].no_wrap = True
    for one in asked:
        table.add_row(
            one["split"], Text(one["state"], STYLES.get(one["state"], "")), _count(one["rows"]),
            Text(numbers(one["metrics"] or {}) or one["detail"] or ""), _count(one["looks_before"]),
            one["finished_at"] or one["created_at"],
        )  # fmt: skip
    return table


def dry_run(answer: DryRun) -> RenderableType:
    """What a submit would do."""
    rows: dict[str, RenderableType | None] = {
        "parameters": f"{answer['params_count']:,}",
        "batches an epoch": "known once the dataset is ready"
        if answer["batches_per_epoch"] is None
        else f"{answer['batches_per_epoch']:,}",
    }
    warnings = [Text(f"warning: {warning}", "yellow") for warning in answer["warnings"]]
    return Group(Text("The spec is valid. Nothing was queued."), _pairs(rows), *warnings)


def datasets(listed: Sequence[Dataset]) -> RenderableType:
    """One row a dataset."""
    if not listed:
        return Text("No datasets.")
    table = _lines("name", "state", "task", "train", "test", "features", "description", cut={"description"})
    for one in listed:
        schema = one["schema"] or {}
        rows = schema.get("rows", {})
        table.add_row(
            one["name"], Text(one["state"], STYLES.get(one["state"], "")), schema.get("task", ""),
            _count(rows.get("train")), _count(rows.get("test")), _shape(schema),
            _cut(one["problem"] or one["description"]),
        )  # fmt: skip
    return table


def dataset(one: Dataset) -> RenderableType:
    """One dataset, with nothing cut off."""
    schema = one["schema"] or {}
    rows = {f"{split} rows": _count(count) for split, count in schema.get("rows", {}).items()}
    return _pairs(
        {
            "name": one["name"],
            "state": Text(one["state"], STYLES.get(one["state"], "")),
            "problem": _text(one["problem"]),
            "description": Text(one["description"]),
            "version": one["version"],
            "owner": _text(one["owner"]),
            "task": schema.get("task"),
            "features": _shape(schema),
        }
        | rows
        | _balance(one)
        | {f"asked {source['name']}": source["why"] or "has it" for source in one["sources"]}
    )


def columns(one: Dataset) -> RenderableType | None:
    """One row a column, inputs first; None where nothing is known of them."""
    statistics = one["statistics"]
    if statistics is None:
        return None
    filled = {column["name"]: column["impute"] for column in _columns_of(one)}
    table = _table("column", "kind", "missing", "minimum", "mean", "maximum", "values")
    for column in [*statistics["columns"], *statistics["targets"]]:
        given = filled.get(column["name"])
        missing = f"{column['missing']:,}" + ("" if given is None else f" → {given}")
        figures = [column["minimum"], column["mean"], column["maximum"]]
        values = ", ".join(f"{name} {count:,}" for name, count in (column["counts"] or {}).items())
        table.add_row(Text(column["name"]), column["kind"], missing, *(map(_figure, figures)), _cut(values))
    return table


def _columns_of(one: Dataset) -> list[dict[str, Any]]:
    return ((one["schema"] or {}).get("features") or {}).get("columns") or []


def _figure(value: float | None) -> str:
    return "" if value is None else number(value)


def versions(listed: Sequence[Version]) -> RenderableType:
    """One row a version."""
    if not listed:
        return Text("No version is there yet.")
    table = _table("version", "when", "rows")
    for one in listed:
        table.add_row(one["version"][:12], one["created_at"], _rows(one["rows"]))
    return table


def upload(one: Upload) -> RenderableType:
    """What became of a file, with every problem of it."""
    facts = _pairs(
        {
            "dataset": one["dataset"],
            "state": Text(one["state"], STYLES.get(one["state"], "")),
            "version": one["version"],
            "file": Text(f"{one['filename']} ({one['bytes']:,} bytes)"),
        }
    )
    return Group(facts, *_noticed("problems", one["problems"]), *_noticed("warnings", one["warnings"]))


def predictions(predicted: Sequence[Predicted], class_names: Sequence[str] = ()) -> RenderableType:
    """One row a row."""
    if not predicted:
        return Text("No rows.")
    rows = [prediction_row(one, class_names) for one in predicted]
    table = _table("row", *rows[0])
    for number_of, row in enumerate(rows):
        table.add_row(str(number_of), *(Text(_cell(value)) for value in row.values()))
    return table


def prediction_row(one: Predicted, class_names: Sequence[str] = ()) -> dict[str, object]:
    """What the model says of one row, in columns; what does not belong to the task is left out.

    Probabilities are named by the classes, or by their places where those are unknown.
    """
    row: dict[str, object] = dict(one["values"] or {})
    if one["class_name"] is not None:
        row |= {"class": one["class"], "class_name": one["class_name"]}
    if one["labels"] is not None:
        row["labels"] = ";".join(one["labels"])
    if one["top_k"] is not None:
        row["top_k"] = ";".join(f"{top['class_name']} {number(top['probability'])}" for top in one["top_k"])
    elif one["probabilities"] is not None:
        found = one["probabilities"]
        names = class_names if len(class_names) == len(found) else range(len(found))
        row |= {f"p({name})": value for name, value in zip(names, found, strict=True)}
    return row


def ledger(looks: Sequence[Look]) -> RenderableType:
    """One row a look at the test split."""
    if not looks:
        return Text("Nobody has looked at the test split.")
    table = _table("when", "who", "what", "job", "why")
    for look in looks:
        who, what, why = Text(look["who"]), look["subject"], Text(look["why"])
        table.add_row(look["looked_at"], who, what, short_id(look["job"]), why)
    return table


def queue(answer: Queue) -> RenderableType:
    """Running and waiting jobs, and the workers."""
    slots = f"{answer['slots']} slot{'' if answer['slots'] == 1 else 's'}"
    head = f"{answer['running']} running on {slots}, {answer['queued']} queued."
    parts: list[RenderableType] = [Text(head)]
    if answer["why"]:
        parts.append(Text(answer["why"], "yellow"))
    if answer["jobs"]:
        parts.append(_queued(answer["jobs"]))
    workers = _lines("worker", "kind", "busy", "device", "ready", cut={"worker", "device"})
    for one in answer["workers"]:
        busy = f"{one['busy']}/{one['slots']}"
        ready = "yes" if one["ready"] else "no"
        workers.add_row(_cut(one["name"]), one["kind"], busy, _cut(one["device"]), ready)
    return Group(*parts, workers if answer["workers"] else Text("No worker is running.", "red"))


def state(one: JobAnswer) -> Text:
    """The state, coloured, with its reason."""
    reason = f" ({one['reason']})" if one["reason"] and one["reason"] != "finished" else ""
    wish = " (being cancelled)" if one["cancel_requested"] and one["state"] in {"queued", "running"} else ""
    return Text(f"{one['state']}{reason}{wish}", STYLES.get(one["state"], ""))


def numbers(values: Mapping[str, float]) -> str:
    """`loss 0.4012  accuracy 0.8602`."""
    return "  ".join(f"{name} {number(value)}" for name, value in values.items())


def number(value: float | None) -> str:
    """Four decimals; very small and very large values in powers of ten."""
    if value is None:
        return "nan"
    is_extreme = value != 0 and not 1e-3 <= abs(value) < 1e6
    return f"{value:.3e}" if is_extreme else f"{value:.4f}"


def seconds(value: float | None) -> str | None:
    """`0.8 s`, `1:05`, `2:00:00`."""
    if value is None:
        return None
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short_id(job_id: str) -> str:
    """The end of an id, which every command understands."""
    return job_id[-SHORT_ID:]


def _noticed(title: str, found: Sequence[DataProblem]) -> list[RenderableType]:
    if not found:
        return []
    table = _table(title, "line", "column", "value", "expected", "times")
    for item in found:
        table.add_row(
            Text(item["message"]), _count(item["line"]), Text(item["column"] or ""),
            Text("" if item["received"] is None else str(item["received"])), Text(item["expected"] or ""),
            _count(item["count"]),
        )  # fmt: skip
    return [Text(), table]


def _balance(one: Dataset) -> dict[str, RenderableType | None]:
    counts = one["statistics"]["class_counts"] if one["statistics"] else None
    warnings = Text("\n".join(warning["message"] for warning in one["warnings"]), "yellow")
    classes = Text(", ".join(f"{name} {count:,}" for name, count in (counts or {}).items()))
    return {"classes": classes, "warnings": warnings}


def _parent(one: JobAnswer) -> str | None:
    parent = one["parent"]
    return f"{short_id(parent['job'])} ({parent['relation']})" if parent else None


def _rows(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in counts.items() if count)


def _cell(value: object) -> str:
    return number(value) if isinstance(value, float) else "" if value is None else str(value)


def _headline(one: JobAnswer) -> dict[str, float]:
    metrics = one["metrics"] or {}
    prefix = "val_" if any(name.startswith("val_") for name in metrics) else ""
    loss = f"{prefix}loss"
    fitting = [name for name in metrics if name.startswith(prefix) and name not in {loss, "learning_rate"}]
    chosen = [name for name in (loss, *fitting[:1]) if name in metrics]
    return {name: metrics[name] for name in chosen}


def _queued(listed: Sequence[JobAnswer]) -> Table:
    cut = {"name", "owner", "waits for"}
    table = _lines("place", "id", "name", "state", "epoch", "owner", "waits for", cut=cut)
    for one in listed:
        place = one["queue"]
        table.add_row(
            str(place["position"]) if place else "", short_id(one["id"]), _cut(one["name"]), state(one),
            _epochs(one), _cut(one["owner"]), _cut(place["why"] if place else ""),
        )  # fmt: skip
    return table


def _table(*names: str, right: bool = False) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    return table


def _lines(*names: str, cut: Set[str]) -> Table:
    """A table of one line a row: where the terminal is narrow, the columns in `cut` give way."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(Text(name, no_wrap=True, overflow="ellipsis"), no_wrap=name not in cut)
    return table


def _cut(text: str) -> Text:
    # rich narrows only columns that may wrap; the cell itself says that it is cut instead.
    return Text(" ".join(text.splitlines()), no_wrap=True, overflow="ellipsis")


def _told(one: Evaluation) -> str:
    return f"{one['split']}: {numbers(one['metrics'] or {})}"


def _pairs(rows: Mapping[str, RenderableType | None]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        if value is not None and str(value):
            table.add_row(name, value)
    return table


def _epochs(one: JobAnswer) -> str:
    return f"{one['progress']['epoch']}/{one['progress']['of']}"


def _best(one: JobAnswer) -> str | None:
    best = one["best"]
    return f"{best['metric']} {number(best['value'])} in epoch {best['epoch'] + 1}" if best else None


def _mlflow(one: JobAnswer) -> str | None:
    url = one["mlflow"]["url"]
    return url if url is None or one["mlflow"]["synced"] else f"{url} (being copied)"


def _engine(one: JobAnswer) -> Text | None:
    why = f" ({one['engine_why']})" if one["engine_why"] else ""
    return Text(f"{one['engine']}{why}") if one["engine"] else None


def _version(version: str | None) -> str:
    return f"@{version[:12]}" if version else ""


def _text(value: str | None) -> Text | None:
    return Text(value) if value else None


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _shape(schema: Mapping[str, Mapping[str, Iterable[int]]]) -> str:
    return "×".join(map(str, schema["features"]["shape"])) if schema else ""


def _age(created_at: str) -> str:
    age = (datetime.now(UTC) - datetime.fromisoformat(created_at)).total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if age >= size:
            return f"{age / size:.0f} {unit}"
    return f"{max(0, age):.0f} s"
