"""Builders of rows with full defaults, through the service's own functions where it has one."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from services import datasets, jobs, leases
from services.catalogue import CATALOGUE
from services.checking import check
from services.ids import new_id
from services.keys import Caller
from services.leases import CheckpointFile, Claim, EpochResult
from services.models import Owner
from services.spec import TrainSpec
from services.states import Reason
from services.store import now_ms
from tests.specs import make_document

IRIS: dict[str, Any] = {
    "name": "iris-8",
    "dataset": "iris",
    "split": {"validation": {"fraction": 0.2}},
    "model": {
        "layers": [
            {"type": "Dense", "units": 8, "activation": "relu"},
            {"type": "Dense", "units": 3, "activation": "softmax"},
        ]
    },
    "compile": {
        "loss": "sparse_categorical_crossentropy",
        "optimizer": {"type": "SGD", "learning_rate": 0.01},
        "metrics": ["accuracy"],
    },
    "fit": {"epochs": 5, "batch_size": 16},
    "seed": 42,
}
VERSIONS = {name: f"{number:02x}" * 32 for number, name in enumerate(CATALOGUE, start=0xA0)}


def make_iris(**changes: Any) -> dict[str, Any]:
    """A spec as plain data, small and valid; changes as in `make_document`."""
    return make_document(IRIS, **changes)


def make_spec(**changes: Any) -> TrainSpec:
    """A checked and resolved spec."""
    return check(make_iris(**changes), None).with_seed(42)


def make_owner(session: Session, name: str = "ada") -> Caller:
    """A person; the same one again for the same name."""
    id_ = session.scalar(select(Owner.id).where(Owner.name == name))
    if id_ is None:
        id_ = new_id()
        session.execute(insert(Owner).values(id=id_, name=name, created_at=now_ms()))
    return Caller(id_, name)


def make_dataset(session: Session, name: str = "iris") -> str:
    """A catalogue dataset that is ready in SQL, without files; returns its version."""
    datasets.want(session, name)
    datasets.accept(session, name, VERSIONS[name], CATALOGUE[name].schema)
    return VERSIONS[name]


def make_job(session: Session, owner: str = "ada", *, with_data: bool = True, **changes: Any) -> str:
    """A queued job; returns its id. Without data it waits for its dataset."""
    spec = make_spec(**changes)
    if with_data:
        make_dataset(session, spec.dataset_name)
    known = datasets.find(session, spec.dataset_name)
    return jobs.submit(session, make_owner(session, owner).id, spec, known, None).job_id


def make_claim(session: Session, worker: str = "train@here", seconds: float = 60, **changes: Any) -> Claim:
    """A new job, claimed; it must be the one whose turn it is."""
    job_id = make_job(session, **changes)
    claim = leases.claim(session, worker, "cpu", seconds)
    assert claim is not None
    assert claim.lease.job_id == job_id
    return claim


def make_epochs(first: int, last: int, *, checkpoint_at: Sequence[int] = ()) -> list[EpochResult]:
    """Results of the epochs first to last; a checkpoint at the end of each epoch named."""
    return [make_epoch(epoch, has_checkpoint=epoch in checkpoint_at) for epoch in range(first, last + 1)]


def make_epoch(epoch: int, *, has_checkpoint: bool = False) -> EpochResult:
    """One epoch's result; its loss is 1 / (epoch + 1), so that its bits matter."""
    loss = 1 / (epoch + 1)
    file = CheckpointFile(epoch + 1, f"checkpoints/e{epoch + 1}-f1.npz", 1_000, f"{epoch + 1:064x}")
    return EpochResult(
        epoch=epoch,
        metrics={"accuracy": 1 - loss / 3, "loss": loss, "val_accuracy": None, "val_loss": loss * 1.1},
        learning_rate=0.01,
        seconds=0.1 + epoch / 7,
        examples=96,
        checkpoint=file if has_checkpoint else None,
    )


def make_success(session: Session, *, sha256: str = "5" * 64, **changes: Any) -> Claim:
    """A new job that was claimed, trained and has its model; its claim."""
    claim = make_claim(session, **changes)
    count = claim.spec["fit"]["epochs"]
    results = make_epochs(0, count - 1, checkpoint_at=[count - 1])
    leases.write_epochs(session, claim.lease, results, 60, None)
    succeed(session, claim.lease, sha256=sha256)
    return claim


def succeed(session: Session, lease: leases.Lease, *, sha256: str = "5" * 64) -> None:
    """The attempt's last write."""
    leases.succeed(
        session,
        lease,
        reason=Reason.FINISHED,
        detail="All epochs were trained.",
        best={"epoch": 4, "metric": "val_loss", "value": 0.22},
        model_sha256=sha256,
        timings={"fit": 1.5},
        engine="fit",
    )
