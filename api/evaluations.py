"""Evaluations of a finished job's model."""

from flask import Blueprint, request

from api.contract import Body, contract
from api.parts import caller, parts
from api.repeats import KEY_HEADER, request_key
from services import answers, evaluations, results
from services.broker import HOUSEKEEPING_QUEUE
from services.errands import LookReason
from services.states import Split

blueprint = Blueprint("evaluations", __name__, url_prefix="/v1/jobs/<job_id>/evaluations")


class EvaluationRequest(Body):
    """What to evaluate on, and why."""

    split: Split
    reason: LookReason = None


@blueprint.post("")
@contract("Ask for an evaluation", {202: answers.Evaluation}, body=EvaluationRequest, headers=KEY_HEADER)
def ask(job_id: str, body: EvaluationRequest) -> tuple[answers.Evaluation, int, dict[str, str]]:
    """202 and a Location to look at; a look at the test split is in the ledger from now on."""
    key = request_key(request.path.encode(), request.get_data())
    with parts().store.writes.begin() as session:
        asked = evaluations.ask(session, job_id, caller().id, body.split, body.reason, key)
    if asked.is_new:
        parts().doorbell.ring(HOUSEKEEPING_QUEUE)
    with parts().store.reads.begin() as session:
        answer = results.evaluation(session, job_id, asked.id)
    return answer, 202, {"Location": f"/v1/jobs/{job_id}/evaluations/{asked.id}"}


@blueprint.get("")
@contract("All evaluations of a job, oldest first, without their outcomes", {200: answers.EvaluationList})
def every(job_id: str) -> answers.EvaluationList:
    """Those that the spec asked for, and those asked for later."""
    with parts().store.reads.begin() as session:
        return answers.EvaluationList(data=results.evaluations(session, job_id))


@blueprint.get("/<evaluation_id>")
@contract("One evaluation", {200: answers.Evaluation})
def one(job_id: str, evaluation_id: str) -> answers.Evaluation:
    """Its state, and its metrics when it succeeded."""
    with parts().store.reads.begin() as session:
        return results.evaluation(session, job_id, evaluation_id)
