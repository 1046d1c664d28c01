"""The reconciler: finds lost jobs after a whole lease, and rings for what nobody answered."""

import socket
from threading import Thread

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from services import evaluations, jobs, leases
from services.errors import LeaseLost
from services.leases import Lease
from services.models import Attempt, Evaluation, Job
from services.states import EvaluationState, JobState, Reason, Split
from services.store import Store, now_ms, open_store
from tests.builders import make_claim, make_job, make_owner, make_success
from tests.conftest import wait_for_a_lock
from worker.reconciler import Reconciler, expire


class Bell:
    """Counts its rings."""

    def __init__(self) -> None:
        self.rings = 0

    def __call__(self) -> None:
        self.rings += 1


def lost(store: Store) -> Lease:
    """A job whose worker has given no sign of life for a whole lease."""
    with store.writes.begin() as session:
        lease = make_claim(session).lease
        session.execute(update(Job).where(Job.id == lease.job_id).values(lease_until=now_ms() - 1))
    return lease


def state_of(store: Store, job_id: str) -> tuple[JobState, Reason | None]:
    with store.reads.begin() as session:
        job = session.get_one(Job, job_id)
        return job.state, job.reason


def settled(store: Store, bell: Bell) -> Reconciler:
    """A reconciler that has seen the store for a whole lease."""
    reconciler = Reconciler(store, 60, bell)
    reconciler.step()
    assert reconciler._connected_at is not None
    reconciler._connected_at -= 60
    return reconciler


def test_nobody_is_expired_within_a_lease_of_connecting(store: Store) -> None:
    lease = lost(store)
    Reconciler(store, 60, Bell()).step()
    assert state_of(store, lease.job_id) == (JobState.RUNNING, None)


def test_a_lost_job_is_queued_again_after_that(store: Store) -> None:
    reconciler = settled(store, Bell())
    lease = lost(store)
    reconciler.step()
    assert state_of(store, lease.job_id) == (JobState.QUEUED, Reason.LOST_WORKER)
    with store.reads.begin() as session:
        attempt = session.scalars(select(Attempt)).one()
    assert attempt.reason is Reason.LOST_WORKER
    assert attempt.detail == "Its worker gave no sign of life for a whole lease."


def test_a_job_that_gives_signs_of_life_is_left_alone(store: Store) -> None:
    reconciler = settled(store, Bell())
    with store.writes.begin() as session:
        lease = make_claim(session).lease
    reconciler.step()
    assert state_of(store, lease.job_id) == (JobState.RUNNING, None)


def test_a_lost_job_that_was_to_be_cancelled_is_cancelled(store: Store) -> None:
    reconciler = settled(store, Bell())
    lease = lost(store)
    with store.writes.begin() as session:
        jobs.cancel(session, lease.job_id)
    reconciler.step()
    assert state_of(store, lease.job_id) == (JobState.CANCELLED, Reason.USER_CANCELLED)


def test_a_lease_that_is_being_renewed_is_left_alone(store: Store) -> None:
    """The sign of life is written, late, but not committed when the reconciler looks."""
    reconciler = settled(store, Bell())
    lease = lost(store)
    step = Thread(target=reconciler.step)
    with store.writes.begin() as session:
        leases.beat(session, lease, 60, 0.0)
        step.start()
        wait_for_a_lock(store, step)
    step.join(30)
    assert state_of(store, lease.job_id) == (JobState.RUNNING, None)


def test_a_lease_is_not_renewed_once_it_was_found_to_be_over(store: Store) -> None:
    lease = lost(store)
    refused: list[LeaseLost] = []

    def beat() -> None:
        try:
            with store.writes.begin() as session:
                leases.beat(session, lease, 60, 0.0)
        except LeaseLost as error:
            refused.append(error)

    late = Thread(target=beat)
    with store.writes.begin() as session:
        (found,) = leases.expired(session)
        late.start()
        wait_for_a_lock(store, late)
        expire(session, found)
    late.join(30)
    assert state_of(store, lease.job_id) == (JobState.QUEUED, Reason.LOST_WORKER)
    assert len(refused) == 1


def test_a_job_that_ended_since_the_look_is_left_alone(store: Store) -> None:
    lease = lost(store)
    with store.writes.begin() as session:
        leases.end_cancelled(session, lease)
    with store.writes.begin() as session:
        expire(session, lease)
    assert state_of(store, lease.job_id) == (JobState.CANCELLED, Reason.USER_CANCELLED)


def test_it_rings_while_a_job_could_start(store: Store) -> None:
    bell = Bell()
    reconciler = Reconciler(store, 60, bell)
    reconciler.step()
    assert bell.rings == 0
    with store.writes.begin() as session:
        make_job(session)
    reconciler.step()
    reconciler.step()
    assert bell.rings == 2


def test_an_evaluation_that_lost_its_last_process_fails(store: Store) -> None:
    reconciler = settled(store, Bell())
    lose_an_evaluation(store)
    reconciler.step()
    with store.reads.begin() as session:
        assert session.scalars(select(Evaluation.state)).all() == [EvaluationState.FAILED]


def test_no_evaluation_fails_within_a_lease_of_connecting(store: Store) -> None:
    lose_an_evaluation(store)
    Reconciler(store, 60, Bell()).step()
    with store.reads.begin() as session:
        assert session.scalars(select(Evaluation.state)).all() == [EvaluationState.RUNNING]


def lose_an_evaluation(store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
        evaluations.ask(session, job_id, make_owner(session).id, Split.TRAIN, None)
        evaluations.claim(session, "housekeeping@here", 60)
        session.execute(update(Evaluation).values(attempts=3, lease_until=now_ms() - 1))


def test_after_the_store_was_away_everybody_gets_one_more_lease(store: Store) -> None:
    reconciler = settled(store, Bell())
    lease = lost(store)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    away = open_store(f"postgresql+psycopg://nobody@127.0.0.1:{port}/none")
    reconciler._store = away
    with pytest.raises(OperationalError):
        reconciler.step()
    reconciler._store = store
    reconciler.step()
    assert state_of(store, lease.job_id) == (JobState.RUNNING, None)
