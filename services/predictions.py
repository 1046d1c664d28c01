"""Predictions of finished jobs' models: asked for by people, done by a process that has the model loaded."""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from sqlalchemy import Select, bindparam, select
from sqlalchemy.orm import Session, defer

from services import answers, errands
from services.errands import Asked, ErrandLease, LookReason
from services.errors import NotFound
from services.jobs import Request
from services.models import DatasetVersion, Job, Look, Prediction
from services.outputs import Form, Outputs, outputs_of
from services.problems import Problem, SpecInvalid, pointer_to
from services.results import moment
from services.rows import split_rows
from services.schema import DatasetSchema
from services.spec import TrainSpec
from services.spelling import composed
from services.states import EvaluationState, Split
from services.store import EncodedJson, encode_json
from services.wording import nearest

MOST_INSTANCES = 10_000
# Of a file, or of a split.
MOST_ROWS = 50_000
# Numbers in one answer: some 40 MB of JSON.
MOST_OUTPUTS = 2_000_000
# Numbers that instances are encoded to, by the process that holds the model.
MOST_INPUTS = 50_000_000
MOST_PROBLEMS = 100


def _one_or_by_label(value: object, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        checked = handler(value)
    except ValidationError as error:
        # One sentence instead of one for each kind that it could have been.
        raise ValueError(
            "a threshold is a number from 0 to 1, or an object with one for each label"
        ) from error
    if isinstance(checked, dict):
        return {composed(label): threshold for label, threshold in checked.items()}
    return checked


Threshold = Annotated[float, Field(strict=True, ge=0, le=1)]
Thresholds = Annotated[Threshold | dict[str, Threshold], WrapValidator(_one_or_by_label)]
Position = Annotated[int, Field(strict=True, ge=0)]


class PredictionOptions(BaseModel):
    """How the outputs are read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top_k: Annotated[int, Field(strict=True, ge=1)] | None = Field(
        default=None, description="Also answer so many of the most probable classes or labels."
    )
    thresholds: Thresholds | None = Field(
        default=None,
        description="From which probability on a label, or the second of two classes, is there: "
        "one number, or one for each label by name. Unset: 0.5.",
    )


class PredictionRequest(PredictionOptions):
    """Which rows to predict: those that come with it, or those of a split of the job's dataset."""

    instances: list[Any] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_INSTANCES,
        description="Rows: objects by column name, or arrays in feature order.",
    )
    split: Split | None = None
    rows: list[Position] | None = Field(
        default=None,
        fail_fast=True,
        min_length=1,
        max_length=MOST_ROWS,
        description="Positions in the split, 0 is its first row. Unset: all of it.",
    )
    reason: LookReason = None

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.instances is None) == (self.split is None):
            raise ValueError(
                "Give one of `instances`, rows that come with the request, and `split`, rows of the dataset"
            )
        if self.rows is not None and self.split is None:
            raise ValueError("`rows` are positions in a split, and no `split` is named")
        return self


@dataclass(frozen=True)
class RowsFile:
    """A file with rows, stored at services.artifacts.prediction_file of this id."""

    prediction_id: str
    name: str


@dataclass(frozen=True)
class Wish:
    """A request that its job's model can answer, ready to be stored."""

    job_id: str
    split: Split | None
    why: str | None
    request: EncodedJson
    """Fields of PredictionRequest; `file` instead of `instances` where the rows came as a file."""
    id_: str | None


@dataclass(frozen=True)
class Result:
    """What a model said, ready to be stored."""

    rows: int
    document: EncodedJson
    warnings: Sequence[dict[str, Any]] = ()
    """services.answers.DataProblem as JSON."""


@dataclass(frozen=True)
class PredictionClaim:
    """A prediction to be made, and all that the process needs of its job."""

    lease: ErrandLease
    job_id: str
    spec: dict[str, Any]
    dataset_name: str
    dataset_version: str
    dataset_schema: dict[str, Any]
    model_sha256: str
    target_scaling: dict[str, Any] | None
    split: Split | None
    options: dict[str, Any]
    """As Wish.request."""


def require_model(session: Session, job_id: str) -> Job:
    """The job. Raises NotFound for no such job, Conflict for one that has no model."""
    return errands.finished_job(session, job_id, "predict with")


def check(
    session: Session,
    job_id: str,
    wanted: PredictionRequest | PredictionOptions,
    file: RowsFile | None = None,
) -> Wish:
    """Make a wish of a request; reads only.

    Raises NotFound for no such job, Conflict for one that has no model or not that split, SpecInvalid for
    options that do not fit the model.
    """
    job = require_model(session, job_id)
    split, why = (wanted.split, wanted.reason) if isinstance(wanted, PredictionRequest) else (None, None)
    if split is not None:
        errands.require_split(job, split)
    version = session.get_one(DatasetVersion, job.dataset_version)
    _check(wanted, TrainSpec.model_validate(job.spec), DatasetSchema.model_validate(version.schema))
    options = wanted.model_dump(mode="json", exclude={"split", "reason"}, exclude_none=True)
    if file is not None:
        options["file"] = file.name
    id_ = None if file is None else file.prediction_id
    return Wish(job_id, split, why, encode_json(options), id_)


def ask(session: Session, wish: Wish, owner_id: str, sha256: str, request: Request | None = None) -> Asked:
    """Queue a prediction; a look at the test split is in the ledger before it can happen.

    `sha256` is of what was sent. Raises NotFound for a job that was deleted meanwhile, KeyReused.
    """
    if before := errands.repeated(session, Prediction, owner_id, request):
        return before
    job = errands.finished_job(session, wish.job_id, "predict with", is_held=True)

    def insert() -> str:
        return errands.insert_row(
            session,
            Prediction,
            job,
            owner_id,
            request,
            id_=wish.id_,
            split=wish.split,
            why=wish.why,
            request=wish.request,
            request_sha256=sha256,
        )

    return errands.ask_once(session, Prediction, owner_id, request, insert)


def _check(wanted: PredictionOptions, spec: TrainSpec, schema: DatasetSchema) -> None:
    outputs = outputs_of(spec, schema)
    problems = [*_top_k(wanted.top_k, outputs, schema), *_thresholds(wanted.thresholds, outputs, schema)]
    most = most_rows(spec, schema, wanted.top_k)
    if isinstance(wanted, PredictionRequest) and wanted.instances is not None:
        problems += _instances(len(wanted.instances), schema, most)
    elif isinstance(wanted, PredictionRequest) and wanted.split is not None:
        problems += _rows(wanted.split, wanted.rows, split_rows(spec, schema, wanted.split), most)
    if problems:
        raise SpecInvalid(problems)


def most_rows(spec: TrainSpec, schema: DatasetSchema, top_k: int | None) -> int:
    """How many rows of this model's outputs fit into one answer."""
    # One of the best is told with its id, its name and its probability.
    values = len(outputs_of(spec, schema).names) + 3 * (top_k or 0)
    return max(1, min(MOST_ROWS, MOST_OUTPUTS // values))


def _top_k(top_k: int | None, outputs: Outputs, schema: DatasetSchema) -> Iterator[Problem]:
    if top_k is None:
        return
    count, kind = len(outputs.names), "labels" if outputs.form is Form.LABELS else "classes"
    if outputs.link is None:
        why = _why_no_probabilities(outputs, schema)
        yield Problem("no_probabilities", "/top_k", f"`top_k` orders by probability: {why}", top_k, "null")
    elif top_k > count:
        message = f"`top_k` is {top_k}, but {schema.name} has {count} {kind}."
        yield Problem("out_of_range", "/top_k", message, top_k, f"{count} or less")


def _why_no_probabilities(outputs: Outputs, schema: DatasetSchema) -> str:
    if outputs.form is Form.VALUES:
        return f"the targets of {schema.name} are numbers, and numbers have none."
    return "this model was trained with a loss that makes none of its outputs."


def _thresholds(
    thresholds: float | dict[str, float] | None, outputs: Outputs, schema: DatasetSchema
) -> Iterator[Problem]:
    if thresholds is None:
        return
    known = outputs.thresholded
    if not known:
        why = _why_no_threshold(outputs, schema)
        yield Problem("no_thresholds", "/thresholds", f"A threshold has no meaning here: {why}", thresholds)
        return
    for label, value in thresholds.items() if isinstance(thresholds, dict) else ():
        if label not in known:
            close = nearest(label, known)
            message = f"{schema.name} has no label `{label}` with a threshold."
            message += f" Did you mean `{close}`?" if close else ""
            expected = f"one of: {', '.join(known[:20])}"
            yield Problem("unknown_label", pointer_to("thresholds", label), message, value, expected)


def _why_no_threshold(outputs: Outputs, schema: DatasetSchema) -> str:
    if outputs.link is None:
        return _why_no_probabilities(outputs, schema)
    return f"of the {len(outputs.names)} classes of {schema.name} the most probable one is answered."


def _instances(count: int, schema: DatasetSchema, most: int) -> Iterator[Problem]:
    inputs = math.prod(schema.features.shape)
    if count > most:
        message = f"{count:,} rows came, and at most {most:,} are predicted at once by this model."
        yield Problem("too_many_rows", "/instances", message, count, f"at most {most:,} rows")
    elif count * inputs > MOST_INPUTS:
        message = f"{count:,} rows of {inputs:,} inputs are too many for JSON."
        expected = f"at most {MOST_INPUTS // inputs:,} rows, or a file"
        yield Problem("too_many_rows", "/instances", message, count, expected)


def _rows(split: Split, rows: Sequence[int] | None, count: int, most: int) -> Iterator[Problem]:
    if count == 0:
        yield Problem("nothing_to_predict", "/split", f"The {split} split has no rows.", split)
        return
    wanted = count if rows is None else len(rows)
    if wanted > most:
        message = (
            f"{wanted:,} rows of the {split} split are too many: at most {most:,} at once by this model."
        )
        yield Problem("too_many_rows", "/rows", message, wanted, f"at most {most:,} positions in it")
    expected = f"0 to {count - 1}"
    outside = [index for index, row in enumerate(rows or ()) if row >= count]
    for index in outside[:MOST_PROBLEMS]:
        row = (rows or ())[index]
        message = f"The {split} split has {count:,} rows; there is no row {row}."
        yield Problem("out_of_range", pointer_to("rows", index), message, row, expected)
    if (more := len(outside) - MOST_PROBLEMS) > 0:
        message = f"{more:,} more positions are not in the {split} split."
        yield Problem("out_of_range", "/rows", message, more, expected)


def is_waiting(session: Session) -> bool:
    """Whether a claim would find something; reads only."""
    return errands.is_waiting(session, Prediction)


def claim(session: Session, worker: str, lease_seconds: float) -> PredictionClaim | None:
    """Take the oldest prediction that waits, or whose process died; None if there is none."""
    row = errands.claim(session, Prediction, worker, lease_seconds)
    if row is None:
        return None
    found = session.execute(_needed().where(Job.id == row.job_id)).one()
    return PredictionClaim(
        lease=ErrandLease(Prediction, row.id, row.fence),
        job_id=row.job_id,
        split=row.split,
        options=row.request or {},
        **found._mapping,
    )


@functools.cache
def _needed() -> Select[*tuple[Any, ...]]:
    """The columns of a job and its dataset, not all of their rows: somebody waits."""
    return select(
        Job.spec,
        Job.dataset_name,
        DatasetVersion.sha256.label("dataset_version"),
        DatasetVersion.schema.label("dataset_schema"),
        Job.model_sha256,
        Job.target_scaling,
    ).join(DatasetVersion, DatasetVersion.sha256 == Job.dataset_version)


def result_of(predicted: Sequence[dict[str, Any]], warnings: Sequence[dict[str, Any]] = ()) -> Result:
    """One answers.Predicted a row as it is stored, and what was noticed of the rows."""
    return Result(len(predicted), encode_json({"rows": predicted}), warnings)


def succeed(session: Session, lease: ErrandLease, result: Result) -> None:
    """The rows are predicted: terminal."""
    noticed = {"noticed": list(result.warnings)} if result.warnings else None
    errands.end(
        session,
        lease,
        EvaluationState.SUCCEEDED,
        result=result.document,
        rows=result.rows,
        problems=noticed,
        detail=None,
    )


def reject(session: Session, lease: ErrandLease, problems: Sequence[answers.DataProblem]) -> None:
    """The rows that came cannot be used: terminal."""
    found = [problem.model_dump(mode="json") for problem in problems]
    detail = "The rows cannot be used."
    errands.end(session, lease, EvaluationState.FAILED, problems={"found": found}, detail=detail)


def is_done(session: Session, prediction_id: str) -> bool:
    """Whether its result or its failure is final; also if it is not there."""
    state = session.scalar(_state(), {"id": prediction_id})
    return state is None or state.is_terminal


# Built once: who waits asks every few milliseconds.
@functools.cache
def _state() -> Select[EvaluationState]:
    return select(Prediction.state).where(Prediction.id == bindparam("id"))


def read(session: Session, job_id: str, prediction_id: str) -> answers.Prediction:
    """One prediction of a job with its result; raises NotFound."""
    found = session.execute(
        _predictions().where(Prediction.job_id == job_id, Prediction.id == prediction_id)
    ).one_or_none()
    if found is None:
        raise NotFound("prediction", prediction_id)
    return _answer(found[0], found[1], has_rows=True)


def page(session: Session, job_id: str, limit: int, after: str | None) -> answers.PredictionList:
    """A job's predictions from before `after`, without their rows, newest first; raises NotFound."""
    if session.get(Job, job_id) is None:
        raise NotFound("job", job_id)
    wanted = _predictions().where(Prediction.job_id == job_id).order_by(Prediction.id.desc())
    if after is not None:
        wanted = wanted.where(Prediction.id < after)
    without = wanted.options(defer(Prediction.result), defer(Prediction.request))
    found = session.execute(without.limit(limit + 1)).all()
    data = [_answer(row, before, has_rows=False) for row, before in found[:limit]]
    more = len(found) > limit
    return answers.PredictionList(data=data, has_more=more, next_after=data[-1].id if more else None)


def _predictions() -> Select[Prediction, int]:
    return select(Prediction, Look.looks_before).outerjoin(Look, Look.subject_id == Prediction.id)


def _answer(row: Prediction, looks_before: int | None, *, has_rows: bool) -> answers.Prediction:
    rows = row.result["rows"] if has_rows and row.result is not None else None
    found = row.problems or {}
    return answers.Prediction(
        id=row.id,
        job=row.job_id,
        state=row.state,
        split=row.split,
        rows=row.rows,
        predictions=rows,
        problems=found.get("found", []),
        warnings=found.get("noticed", []),
        detail=row.detail,
        reason=row.why,
        looks_before=looks_before,
        created_at=moment(row.created_at),
        finished_at=None if row.finished_at is None else moment(row.finished_at),
    )
