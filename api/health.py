"""Whether the process lives, and whether a job could start."""

from flask import Blueprint
from sqlalchemy.exc import SQLAlchemyError

from api.contract import contract
from api.parts import parts
from services import answers, workers
from services.errors import StoreOutdated
from services.revision import require_revision

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
@contract("Whether the API process lives", {200: answers.Health}, is_open=True)
def healthz() -> answers.Health:
    """Asks nobody else."""
    return answers.Health(status="ok", checks={"api": "ok"})


@blueprint.get("/readyz")
@contract("Whether a job could start", {200: answers.Health, 503: answers.Health}, is_open=True)
def readyz() -> tuple[answers.Health, int]:
    """200 if the database, the broker, a warm train worker and a housekeeping worker are there."""
    checks = {"database": _database()}
    checks["broker"] = "ok" if parts().doorbell.answers() else "does not answer"
    if checks["database"] == "ok":
        checks |= _workers()
    ready = all(check == "ok" for check in checks.values())
    return answers.Health(status="ok" if ready else "unavailable", checks=checks), 200 if ready else 503


def _database() -> str:
    try:
        require_revision(parts().store)
    except StoreOutdated as error:
        return str(error)
    except SQLAlchemyError:
        return "does not answer"
    return "ok"


def _workers() -> dict[str, str]:
    with parts().store.reads.begin() as session:
        present = workers.present(session)
    trainers = [worker for worker in present if worker.kind == workers.TRAIN]
    keepers = [worker for worker in present if worker.kind == workers.HOUSEKEEPING]
    warm = any(worker.ready for worker in trainers)
    return {
        "train_worker": "ok" if warm else "warming up" if trainers else "none is there",
        "housekeeping_worker": "ok" if keepers else "none is there",
    }
