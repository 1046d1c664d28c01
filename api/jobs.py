"""Jobs: submit, list, show, change, cancel, delete."""

import hashlib
import shutil
import time
from dataclasses import dataclass
from typing import Annotated

from flask import Blueprint, Response, request
from pydantic import Field

from api.contract import LARGEST_BODY, Body, Query, contract, json_response
from api.pages import PageCursor
from api.parts import caller, parts
from api.repeats import KEY_HEADER, request_key
from services import answers, jobs, results
from services.artifacts import job_folder
from services.broker import HOUSEKEEPING_QUEUE, TRAIN_QUEUE
from services.checking import warnings
from services.documents import read_document
from services.intake import Checked, examine, override
from services.rows import batches_per_epoch
from services.shapes import parameters
from services.spec import LabelKey, LabelValue, TrainSpec
from services.states import JobState, Relation
from services.vocabulary import Whole

blueprint = Blueprint("jobs", __name__, url_prefix="/v1/jobs")

LONGEST_WAIT_SECONDS = 60.0
LOOK_EVERY_SECONDS = 0.2
# The place in the queue changes without the job's own row.
RENDER_EVERY_SECONDS = 2.0
LONGEST_NOTE = 10_000


class SubmitQuery(Query):
    """How to take the spec."""

    dry_run: bool = Field(default=False, description="Check and resolve only; nothing is queued.")
    set: list[str] = Field(default=[], description="`path=value`, applied to the spec before it is checked.")


class JobQuery(Query):
    """Which jobs."""

    state: JobState | None = None
    owner: str | None = None
    dataset: str | None = None
    label: str | None = Field(default=None, pattern="(?s)^[^:]+:.*$", description="`key:value`.")
    parent: str | None = Field(default=None, description="Id of the job that they were made from.")
    relation: Relation | None = Field(default=None, description="How they were made from their parents.")
    limit: int = Field(default=20, ge=1, le=200)
    after: PageCursor | None = Field(default=None, description="`next_after` of the page before.")


@blueprint.post("")
@contract(
    "Submit a spec as JSON or YAML",
    {201: answers.Job, 200: answers.DryRun},
    query=SubmitQuery,
    body=TrainSpec,
    reads_body=False,
    headers=KEY_HEADER,
)
def submit(query: SubmitQuery) -> Response:
    """201 with the new job, 200 with a job that this Idempotency-Key made before, or with a dry run."""
    body = request.get_data()
    document = override(read_document(body, request.mimetype, limit=LARGEST_BODY), query.set)
    with parts().store.reads.begin() as session:
        checked = examine(session, document)
    if query.dry_run:
        return json_response(_dry_run(checked), 200)
    key = request_key(request.query_string, body)
    with parts().store.writes.begin() as session:
        accepted = jobs.submit(session, caller().id, checked.spec, checked.known, key)
    if accepted.is_new:
        ring(is_data_there=checked.known.version is not None)
    with parts().store.reads.begin() as session:
        job = results.job(session, accepted.job_id, parts().urls)
    return json_response(job, 201 if accepted.is_new else 200, {"Location": f"/v1/jobs/{job.id}"})


def ring(*, is_data_there: bool) -> None:
    """Tell the workers of a new job."""
    # Data that was missing at the check may have come before the insert: then a slot can start at once.
    if not is_data_there and not parts().doorbell.ring(HOUSEKEEPING_QUEUE):
        # The broker is away; a second try would only keep the caller waiting.
        return
    parts().doorbell.ring(TRAIN_QUEUE)


def _dry_run(checked: Checked) -> answers.DryRun:
    spec = checked.spec
    return answers.DryRun(
        spec=spec.model_dump(mode="json"),
        params_count=parameters(spec, checked.known.schema),
        batches_per_epoch=batches_per_epoch(spec, checked.known.schema),
        warnings=warnings(spec, checked.known.schema),
    )


@blueprint.get("")
@contract("List jobs, newest first", {200: answers.JobPage}, query=JobQuery)
def page(query: JobQuery) -> answers.JobPage:
    """A page of jobs; `next_after` leads to the next."""
    label = None
    if query.label is not None:
        key, _, value = query.label.partition(":")
        label = (key, value)
    wanted = results.Filter(query.state, query.owner, query.dataset, label, query.parent, query.relation)
    with parts().store.reads.begin() as session:
        return results.page(session, wanted, query.limit, query.after, parts().urls)


@blueprint.get("/<job_id>")
@contract(
    "Show a job",
    {200: answers.Job, 304: None},
    headers={
        "If-None-Match": "The ETag of an earlier answer: 304 while the job is the same.",
        "Prefer": "`wait=30`, with If-None-Match: hold the answer for so many seconds until the job changes. "
        "While too many others wait, it is answered at once.",
    },
)
def show(job_id: str) -> Response:
    """The job, or 304 if it is still the one that the client knows."""
    rendered = _render(job_id)
    seconds = _seconds_to_wait()
    if rendered.etag in request.if_none_match and seconds and parts().waiters.acquire(blocking=False):
        try:
            rendered = _wait(job_id, rendered, time.monotonic() + seconds)
        finally:
            parts().waiters.release()
    response = rendered.response
    response.set_etag(rendered.etag)
    response.make_conditional(request)
    return response


@dataclass(frozen=True)
class Rendered:
    """A job's answer, its ETag, and the revision that it shows."""

    response: Response
    etag: str
    revision: int


def _render(job_id: str) -> Rendered:
    with parts().store.reads.begin() as session:
        revision = results.revision(session, job_id)
        answer = results.job(session, job_id, parts().urls)
    response = json_response(answer)
    # The estimate of the end moves with each look; it alone is no change.
    stable = answer.model_dump_json(exclude={"progress": {"eta_seconds"}})
    return Rendered(response, hashlib.sha256(stable.encode()).hexdigest()[:20], revision)


def _wait(job_id: str, rendered: "Rendered", deadline: float) -> "Rendered":
    while rendered.etag in request.if_none_match and time.monotonic() < deadline and not parts().closing():
        rendered = _wait_for_change(job_id, rendered, deadline)
    return rendered


def _wait_for_change(job_id: str, rendered: Rendered, deadline: float) -> Rendered:
    until = min(deadline, time.monotonic() + RENDER_EVERY_SECONDS)
    while time.monotonic() < until and not parts().closing():
        time.sleep(LOOK_EVERY_SECONDS)
        with parts().store.reads.begin() as session:
            if results.revision(session, job_id) != rendered.revision:
                break
    return _render(job_id)


def _seconds_to_wait() -> float:
    for preference in request.headers.get("Prefer", "").split(","):
        name, _, value = preference.strip().partition("=")
        if name == "wait" and value.isdecimal():
            return min(float(value), LONGEST_WAIT_SECONDS)
    return 0.0


@blueprint.post("/<job_id>/cancel")
@contract("Cancel a job, in any state", {200: answers.Job, 202: answers.Job})
def cancel(job_id: str) -> tuple[answers.Job, int]:
    """200 if the job is cancelled now, 202 if its trainer was asked to stop, 409 if it ended otherwise."""
    with parts().store.writes.begin() as session:
        state = jobs.cancel(session, job_id)
    with parts().store.reads.begin() as session:
        return results.job(session, job_id, parts().urls), 200 if state.is_terminal else 202


class JobPatch(Body):
    """What to change; what is left out stays."""

    labels: dict[LabelKey, LabelValue | None] = Field(
        default={}, description="Merged into those that are there; null takes one away."
    )
    note: Annotated[str, Field(max_length=LONGEST_NOTE)] | None = Field(
        default=None, description="Free text for people; null takes it away."
    )
    priority: Annotated[Whole, Field(ge=-100, le=100)] = Field(
        default=0, description="Of your queued jobs the highest starts first; others' jobs are not passed by."
    )


@blueprint.patch("/<job_id>")
@contract("Change a job's labels, note or priority, in any state", {200: answers.Job}, body=JobPatch)
def patch(job_id: str, body: JobPatch) -> answers.Job:
    """200 with the job; its spec stays as it was submitted."""
    with parts().store.writes.begin() as session:
        jobs.patch(session, job_id, body.model_dump(exclude_unset=True))
    with parts().store.reads.begin() as session:
        return results.job(session, job_id, parts().urls)


class DeleteQuery(Query):
    """How much of the job goes."""

    artifacts: bool = Field(default=True, description="Its files: checkpoints, model, logs, pictures.")
    mlflow: bool = Field(
        default=False, description="Its run in MLflow, too, as soon as MLflow can be reached."
    )


@blueprint.delete("/<job_id>")
@contract("Delete a terminal job", {204: None}, query=DeleteQuery)
def delete(job_id: str, query: DeleteQuery) -> tuple[str, int]:
    """204; 409 for a job that is not terminal. Its children and its looks at test splits stay."""
    with parts().store.writes.begin() as session:
        jobs.delete(session, job_id, also_in_mlflow=query.mlflow)
    if query.artifacts:
        shutil.rmtree(job_folder(parts().settings.artifact_root, job_id), ignore_errors=True)
    if query.mlflow:
        parts().doorbell.ring(HOUSEKEEPING_QUEUE)
    return "", 204
