"""Commands that show what came of a job."""

import sys
import webbrowser
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainshed.commands.session import (
    FAILED,
    SUCCEEDED,
    JobArgument,
    Output,
    ReasonOption,
    SplitName,
    check_out,
    session_of,
    short,
)

if TYPE_CHECKING:
    from trainshed.job import Job


def history(
    context: typer.Context,
    job: JobArgument = "last",
    csv: Annotated[bool, typer.Option("--csv", help="As CSV.")] = False,
    output: Output = None,
) -> None:
    """Print a job's history, one row an epoch."""
    session = session_of(context, output)
    found = session.client.find(job)
    if csv:
        typer.echo(found.history_csv(), nl=False)
        return
    answer = found.history_json()
    if session.is_json:
        session.print_json(answer)
        return
    from trainshed import tables

    session.print(tables.history(answer))
    session.hint(f"trainshed plot {short(found)}", f"trainshed history {short(found)} --csv")


class Picture(StrEnum):
    """What is drawn."""

    LEARNING_CURVES = "learning-curves"
    CONFUSION_MATRIX = "confusion-matrix"
    PREDICTED_VS_TRUE = "predicted-vs-true"


def plot(
    context: typer.Context,
    job: JobArgument = "last",
    kind: Annotated[Picture, typer.Option(help="What is drawn.")] = Picture.LEARNING_CURVES,
    split: Annotated[
        SplitName, typer.Option(help="Whose newest evaluation is drawn; not for learning curves.")
    ] = SplitName.VALIDATION,
    out: Annotated[
        Path | None, typer.Option(help="A name that ends in .png or .svg; by default KIND.png.")
    ] = None,
    output: Output = None,
) -> None:
    """Write a picture of a job."""
    session = session_of(context, output)
    target = out or Path(f"{kind}.png")
    check_out(target, ".png", ".svg")
    found = session.client.find(job)
    session.say_written(_draw(found, kind, target, split))
    session.hint(f"trainshed evaluate {short(found)}", f"trainshed open {short(found)}")


def evaluate(
    context: typer.Context,
    job: JobArgument,
    split: Annotated[SplitName, typer.Option(help="On which part of the data.")] = SplitName.VALIDATION,
    reason: ReasonOption = None,
    output: Output = None,
) -> None:
    """Evaluate a finished job's model on a split."""
    session = session_of(context, output)
    found = session.client.find(job)
    result = found.evaluate(split.value, reason=reason)
    if session.is_json:
        session.print_json(result)
    else:
        from trainshed import tables

        session.print(tables.evaluation(result))
        session.hint(f"trainshed model {short(found)} --out model.keras", "trainshed datasets ledger NAME")
    raise typer.Exit(SUCCEEDED if result["state"] == "succeeded" else FAILED)


def evaluations(context: typer.Context, job: JobArgument = "last", output: Output = None) -> None:
    """List a job's evaluations, oldest first."""
    session = session_of(context, output)
    found = session.client.find(job)
    listed = found.evaluations()
    if session.is_json:
        session.print_json(listed)
        return
    from trainshed import tables

    session.print(tables.evaluations(listed))
    session.hint(f"trainshed evaluate {short(found)} --split validation")


def model(
    context: typer.Context,
    job: JobArgument = "last",
    out: Annotated[Path, typer.Option(help="A name that ends in .keras.")] = Path("model.keras"),
    output: Output = None,
) -> None:
    """Download a job's model: a .keras file that plain Keras loads."""
    session = session_of(context, output)
    check_out(out, ".keras")
    found = session.client.find(job)
    session.say_written(found.download_model(out))
    session.hint(f'python -c "import keras; keras.models.load_model({str(out)!r}).summary()"')


def open_(context: typer.Context, job: JobArgument = "last", output: Output = None) -> None:
    """Open a job's MLflow run, and print its address."""
    session = session_of(context, output)
    link = session.client.find(job).data["mlflow"]
    if session.is_json:
        session.print_json(link)
        return
    if link["url"] is None:
        typer.echo("The job has no MLflow run yet; it gets one soon after its training begins.", err=True)
        raise typer.Exit(FAILED)
    typer.echo(link["url"])
    if sys.stdout.isatty():
        webbrowser.open(link["url"])


def _draw(job: "Job", kind: Picture, target: Path, split: SplitName) -> Path:
    match kind:
        case Picture.LEARNING_CURVES:
            return job.learning_curves(target)
        case Picture.CONFUSION_MATRIX:
            return job.confusion_matrix(target, split=split.value)
        case Picture.PREDICTED_VS_TRUE:
            return job.predicted_vs_true(target, split=split.value)
