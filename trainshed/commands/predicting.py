"""The command that asks a model."""

import csv
import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainshed.commands.session import (
    JobArgument,
    Output,
    ReasonOption,
    Session,
    SplitName,
    check_out,
    session_of,
    short,
)
from trainshed.errors import NotFound, RowsDoubtful

if TYPE_CHECKING:
    from trainshed.answers import Predicted
    from trainshed.job import Job


def predict(
    context: typer.Context,
    job: JobArgument,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rows: CSV, Parquet, NPZ or idx; .gz is unpacked.")
    ] = None,
    instances: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="A list of rows: objects or lists; - reads standard input."),
    ] = None,
    split: Annotated[SplitName | None, typer.Option(help="Rows of the job's own dataset.")] = None,
    reason: ReasonOption = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="So many of the most probable classes.")] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(metavar="[LABEL=]VALUE", help="From where on a label is given; repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A name that ends in .csv or .json.")] = None,
    output: Output = None,
) -> None:
    """Ask a finished job's model about rows."""
    session = session_of(context, output)
    if sum(given is not None for given in (file, instances, split)) != 1:
        raise typer.BadParameter("give exactly one of --file, --instances and --split", param_hint="--file")
    if out is not None:
        check_out(out, ".csv", ".json")
    rows = file if instances is None else _instances(instances)
    found = session.client.find(job)
    with warnings.catch_warnings(record=True) as noticed:
        warnings.simplefilter("always", RowsDoubtful)
        predicted = found.predict(
            rows,
            split=None if split is None else split.value,
            reason=reason,
            top_k=top_k,
            thresholds=_thresholds(threshold or []),
        )
    for warning in noticed:
        typer.secho(f"Warning: {warning.message}", fg="yellow", err=True)
    if out is not None:
        _write(out, predicted, _class_names(session, found))
        session.say_written(out)
    elif session.is_json:
        session.print_json(predicted)
    else:
        from trainshed import tables

        session.print(tables.predictions(predicted, _class_names(session, found)))
    session.hint(f"trainshed predict {short(found)} … --out predictions.csv")


def _class_names(session: Session, job: "Job") -> list[str]:
    """What the columns of probabilities are called: classes, or labels. A deleted dataset has no names."""
    try:
        schema = session.client.datasets.get(job.data["dataset"]["name"])["schema"] or {}
    except NotFound:
        return []
    target = schema.get("target") or {}
    return list(target.get("class_names") or target.get("names") or [])


def _write(out: Path, predicted: "list[Predicted]", class_names: list[str]) -> None:
    if out.suffix == ".json":
        out.write_text(json.dumps(predicted, ensure_ascii=False), encoding="utf-8")
        return
    from trainshed.tables import prediction_row

    rows = [{"row": number, **prediction_row(one, class_names)} for number, one in enumerate(predicted)]
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def _instances(text: str) -> list[Any]:
    try:
        rows = json.loads(sys.stdin.read() if text == "-" else text)
    except ValueError as error:
        raise typer.BadParameter(f"it is no JSON ({error})", param_hint="--instances") from error
    if not isinstance(rows, list):
        raise typer.BadParameter("it is no list of rows", param_hint="--instances")
    return rows


def _thresholds(given: list[str]) -> float | dict[str, float] | None:
    named = dict(text.rpartition("=")[::2] for text in given)
    try:
        values = {label: float(value) for label, value in named.items()}
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--threshold") from error
    if "" in values and len(given) > 1:
        raise typer.BadParameter("either one for all labels, or LABEL=VALUE each", param_hint="--threshold")
    return values.get("", values or None)
