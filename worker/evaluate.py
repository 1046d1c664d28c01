"""One evaluation that a person asked for, in a process of its own."""

import logging
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services import artifacts, errands, evaluations
from services.errors import LeaseLost
from services.evaluations import EvaluationClaim
from services.predictions import PredictionClaim
from services.settings import Settings
from services.store import Store
from worker import events
from worker.run import LOOK_SECONDS, finite
from worker.trainers import Trainer, Trainers

# Evaluating must not fail because the GPU is full of training jobs.
DEVICE = events.Device(kind="cpu")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Desk:
    """What evaluations work with."""

    settings: Settings
    store: Store
    trainers: Trainers
    worker: str


def evaluate_next(desk: Desk) -> bool:
    """Claim the oldest evaluation and do it; False if there was none."""
    with desk.store.writes.begin() as session:
        claim = evaluations.claim(session, desk.worker, desk.settings.lease_seconds)
    if claim is None:
        return False
    folder = artifacts.job_folder(desk.settings.artifact_root, claim.job_id)
    try:
        # The job may be deleted meanwhile: nothing here makes its folder again.
        with closing(desk.trainers.open(_order(desk, claim), folder / "log-evaluation.txt")) as trainer:
            _listen(desk, claim, trainer)
    except LeaseLost as error:
        log.warning("%s The evaluation was ended.", error)
    return True


def _order(desk: Desk, claim: EvaluationClaim) -> events.EvaluateOrder:
    root = desk.settings.artifact_root
    return events.EvaluateOrder(
        job=claim.job_id,
        spec=claim.spec,
        dataset=dataset_of(root, claim),
        job_dir=str(artifacts.job_folder(root, claim.job_id)),
        model=model_of(root, claim),
        split=claim.split,
        target_scaling=scaling_of(claim.target_scaling),
        device=DEVICE,
    )


def dataset_of(root: Path, claim: EvaluationClaim | PredictionClaim) -> events.DatasetPlace:
    """Where the dataset of a claim's job is."""
    return events.DatasetPlace(
        name=claim.dataset_name,
        version=claim.dataset_version,
        path=str(artifacts.dataset_folder(root, claim.dataset_version)),
        schema=claim.dataset_schema,
    )


def model_of(root: Path, claim: EvaluationClaim | PredictionClaim) -> events.ModelFile:
    """The model file of a claim's job."""
    return events.ModelFile(path=str(artifacts.model_file(root, claim.job_id)), sha256=claim.model_sha256)


def scaling_of(stored: dict[str, Any] | None) -> events.TargetScaling | None:
    """How the job's targets are scaled, as SQL holds it."""
    return None if stored is None else events.TargetScaling(**stored)


def _listen(desk: Desk, claim: EvaluationClaim, trainer: Trainer) -> None:
    verdict: events.Event | None = None
    beat_at = time.monotonic()
    while verdict is None and not trainer.is_gone:
        for event in trainer.events(LOOK_SECONDS):
            if isinstance(event, events.Finished | events.Failed):
                verdict = event
        if time.monotonic() - beat_at >= desk.settings.heartbeat_seconds:
            beat_at = time.monotonic()
            with desk.store.writes.begin() as session:
                errands.beat(session, claim.lease, desk.settings.lease_seconds)
    with desk.store.writes.begin() as session:
        match verdict:
            case events.Finished(evaluations=[result]):
                evaluations.succeed(session, claim.lease, finite(result.metrics), result.rows, result.outcome)
            case events.Failed(message=message):
                errands.fail(session, claim.lease, message)
            case _:
                errands.give_back(session, claim.lease, f"Its process ended without a word ({trainer.end}).")
