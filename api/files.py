"""What a job was asked for and left behind: spec, summary, attempts, logs, model."""

import re
from typing import Literal

import yaml
from flask import Blueprint, Response, request, send_file
from pydantic import Field

from api.contract import Query, contract
from api.parts import parts
from services import answers, datasets, results
from services.artifacts import log_file, model_file
from services.errors import Conflict, NotFound
from services.shapes import summarize
from services.spec import TrainSpec

blueprint = Blueprint("files", __name__, url_prefix="/v1/jobs/<job_id>")


class SpecQuery(Query):
    """How."""

    format: Literal["json", "yaml"] = "json"


class LogQuery(Query):
    """Which attempt."""

    attempt: int | None = Field(default=None, ge=1, description="Unset: the newest.")


@blueprint.get("/spec")
@contract(
    "The resolved spec, ready to be submitted again",
    {200: ("application/json", "application/yaml")},
    query=SpecQuery,
)
def spec(job_id: str, query: SpecQuery) -> Response:
    """Every default written out; `format=yaml` for YAML."""
    with parts().store.reads.begin() as session:
        document = TrainSpec.model_validate(results.find(session, job_id).spec)
    if query.format == "json":
        return Response(document.model_dump_json(indent=2), content_type="application/json")
    text = yaml.safe_dump(document.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return Response(text, content_type="application/yaml")


@blueprint.get("/summary")
@contract("Keras's model summary", {200: answers.Summary})
def summary(job_id: str) -> answers.Summary:
    """Layer names, output shapes and parameter counts, from arithmetic."""
    with parts().store.reads.begin() as session:
        job = results.find(session, job_id)
        known = datasets.of_job(session, job)
    return summarize(TrainSpec.model_validate(job.spec), known.schema)


@blueprint.get("/attempts")
@contract("All attempts, oldest first", {200: answers.AttemptList})
def attempts(job_id: str) -> answers.AttemptList:
    """What ran when and where, and how it ended."""
    with parts().store.reads.begin() as session:
        return answers.AttemptList(data=results.attempts(session, job_id))


@blueprint.get("/logs")
@contract("What the trainer wrote to stdout and stderr", {200: "text/plain"}, query=LogQuery)
def logs(job_id: str, query: LogQuery) -> Response:
    """Text; empty before the first attempt."""
    with parts().store.reads.begin() as session:
        begun = results.find(session, job_id).attempts
    number = query.attempt or begun
    if number > begun:
        raise NotFound("attempt", str(number))
    path = log_file(parts().settings.artifact_root, job_id, number)
    text = path.read_bytes() if path.exists() else b""
    return Response(text, content_type="text/plain; charset=utf-8")


@blueprint.get("/model")
@contract("The trained model as a .keras file", {200: "application/octet-stream"})
def model(job_id: str) -> Response:
    """Loads with `keras.models.load_model`; takes raw inputs. The ETag is the file's SHA-256."""
    with parts().store.reads.begin() as session:
        job = results.find(session, job_id)
    if job.model_sha256 is None:
        raise Conflict(f"Job {job_id} is {job.state}: only a succeeded job has a model.")
    path = model_file(parts().settings.artifact_root, job_id)
    if not path.exists():
        raise NotFound("model file of job", job_id)
    response = send_file(
        path,
        mimetype="application/octet-stream",
        as_attachment=True,
        download_name=f"{_file_name(job.name)}.keras",
        etag=job.model_sha256,
    )
    response.make_conditional(request)
    return response


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"
