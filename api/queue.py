"""The queue and the workers."""

from flask import Blueprint

from api.contract import contract
from api.parts import parts
from services import answers, results

blueprint = Blueprint("queue", __name__, url_prefix="/v1")


@blueprint.get("/queue")
@contract("Who runs, who waits, and for what", {200: answers.Queue})
def queue() -> answers.Queue:
    """Running jobs, then queued ones in the order in which they will start."""
    with parts().store.reads.begin() as session:
        return results.queue(session, parts().urls)


@blueprint.get("/workers")
@contract("Workers seen lately", {200: answers.WorkerList})
def workers() -> answers.WorkerList:
    """Each worker with its device, slots and what it runs."""
    with parts().store.reads.begin() as session:
        return answers.WorkerList(data=results.present_workers(session))
