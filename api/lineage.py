"""Jobs made from jobs: continue, retry, clone."""

from collections.abc import Callable
from typing import Annotated, Any

from flask import Blueprint, Response, request
from pydantic import Field
from sqlalchemy.orm import Session

from api.contract import LARGEST_BODY, Body, contract, json_response, validated
from api.jobs import ring
from api.parts import caller, parts
from api.repeats import KEY_HEADER, request_key
from services import answers, jobs, lineage, results
from services.documents import read_document
from services.jobs import Accepted
from services.lineage import Child, StoppingChange
from services.spec import MAX_EPOCHS
from services.vocabulary import Whole

blueprint = Blueprint("lineage", __name__, url_prefix="/v1/jobs/<job_id>")

ANSWERS = {201: answers.Job, 200: answers.Job}


class ContinueRequest(Body):
    """How much longer to train."""

    epochs: Annotated[Whole, Field(ge=1, le=MAX_EPOCHS)] = Field(description="How many more.")
    early_stopping: StoppingChange | None = Field(
        default=None,
        description="`reset`: its patience begins anew after the epochs that are there; `remove`: it goes. "
        "One of them is needed where early stopping ended the parent. Null: it goes on as it was.",
    )


class RetryRequest(Body):
    """Nothing needs to be said."""


class CloneRequest(Body):
    """What is to be different."""

    set: dict[str, Any] = Field(
        default={},
        description='Values by dotted path, such as {"fit.epochs": 5, "model.layers.1.units": 200}.',
    )


@blueprint.post("/continue")
@contract(
    "Train a job's model for more epochs, as a new job", ANSWERS, body=ContinueRequest, headers=KEY_HEADER
)
def continue_(job_id: str, body: ContinueRequest) -> Response:
    """201 with the new job, whose history begins with its parent's; 409 for a parent that cannot go on."""
    root = parts().settings.artifact_root
    return _answer(lambda session: lineage.continue_(session, root, job_id, body.epochs, body.early_stopping))


@blueprint.post("/retry")
@contract(
    "Try a failed or cancelled job again, as a new job",
    ANSWERS,
    body=RetryRequest,
    reads_body=False,
    headers=KEY_HEADER,
)
def retry(job_id: str) -> Response:
    """201 with the new job, which goes on from the last checkpoint; 409 where another try would not help."""
    if request.get_data():
        validated(RetryRequest, read_document(request.get_data(), request.mimetype, limit=LARGEST_BODY))
    return _answer(lambda session: lineage.retry(session, parts().settings.artifact_root, job_id))


@blueprint.post("/clone")
@contract("Submit a job's spec again, with changes", ANSWERS, body=CloneRequest, headers=KEY_HEADER)
def clone(job_id: str, body: CloneRequest) -> Response:
    """201 with the new job, trained from scratch; 422 with all that is wrong with the changed spec."""
    return _answer(lambda session: lineage.clone(session, job_id, body.set))


def _answer(plan: Callable[[Session], Child]) -> Response:
    key = request_key(request.path.encode(), request.get_data())
    with parts().store.reads.begin() as session:
        accepted = None if key is None else jobs.repeated(session, caller().id, key)
        child = None if accepted else plan(session)
    if child is not None:
        accepted = _made(child, key)
    assert accepted is not None
    with parts().store.reads.begin() as session:
        job = results.job(session, accepted.job_id, parts().urls)
    return json_response(job, 201 if accepted.is_new else 200, {"Location": f"/v1/jobs/{job.id}"})


def _made(child: Child, key: jobs.Request | None) -> Accepted:
    root = parts().settings.artifact_root
    is_kept = False
    try:
        # Before the commit: a worker may claim the job right after it.
        lineage.hand_down(root, child)
        with parts().store.writes.begin() as session:
            accepted = lineage.submit(session, caller().id, child, key)
        is_kept = accepted.is_new
    finally:
        if not is_kept:
            lineage.take_back(root, child)
    if accepted.is_new:
        ring(is_data_there=child.known.version is not None)
    return accepted
