"""Leases: claims, fences, and every write of an attempt."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from services import jobs, leases
from services.errors import LeaseLost
from services.leases import EvaluationResult, Lease
from services.models import Attempt, Checkpoint, Epoch, Evaluation, Event, Job, Look
from services.states import EvaluationState, JobState, Reason, Split
from services.store import Store, now_ms
from tests.builders import make_claim, make_epoch, make_epochs, make_job, make_owner, succeed

WRITES: dict[str, Callable[[Session, Lease], object]] = {
    "beat": lambda session, lease: leases.beat(session, lease, 60, 0.5),
    "is_unwanted": leases.is_unwanted,
    "note_environment": lambda session, lease: leases.note_environment(session, lease, {"keras": "3"}),
    "resumed": lambda session, lease: leases.resumed(session, lease, 0),
    "checkpoint_skipped": lambda session, lease: leases.checkpoint_skipped(session, lease, "a.npz", "torn"),
    "write_epochs": lambda session, lease: leases.write_epochs(
        session, lease, make_epochs(2, 2, checkpoint_at=[2]), 60, {"epoch": 2, "metric": "loss", "value": 0.1}
    ),
    "succeed": succeed,
    "end_cancelled": leases.end_cancelled,
    "end_failed": lambda session, lease: leases.end_failed(session, lease, Reason.DIVERGED, "NaN"),
}


def claim(store: Store, worker: str = "train@here") -> leases.Claim:
    with store.writes.begin() as session:
        found = leases.claim(session, worker, "cpu", 60)
    assert found is not None
    return found


def job_of(store: Store, lease: Lease) -> Job:
    with store.reads.begin() as session:
        return session.get_one(Job, lease.job_id)


def everything(store: Store) -> list[list[dict[str, object]]]:
    """All rows of what an attempt may write."""
    tables = (Job, Attempt, Epoch, Checkpoint, Event, Evaluation, Look)
    with store.engine.connect() as connection:
        return [[dict(row) for row in connection.execute(select(table)).mappings()] for table in tables]


def age(store: Store, lease: Lease) -> None:
    """Let the lease be over."""
    with store.writes.begin() as session:
        session.execute(update(Job).where(Job.id == lease.job_id).values(lease_until=now_ms() - 1))


def put_back(store: Store, lease: Lease, reason: Reason = Reason.DEPLOY) -> None:
    """End the attempt so that the job may be claimed at once."""
    with store.writes.begin() as session:
        assert leases.end_failed(session, lease, reason, "gone") is JobState.QUEUED
        session.execute(update(Job).where(Job.id == lease.job_id).values(run_after_at=0))


def test_parallel_claims_take_each_job_once(store: Store) -> None:
    with store.writes.begin() as session:
        wanted = [make_job(session, owner=f"owner {number % 3}") for number in range(20)]

    def take_all(worker: str) -> list[Lease]:
        taken = []
        while True:
            with store.writes.begin() as session:
                found = leases.claim(session, worker, "cpu", 60)
            if found is None:
                return taken
            taken.append(found.lease)

    with ThreadPoolExecutor(8) as pool:
        taken = [lease for some in pool.map(take_all, map(str, range(8))) for lease in some]
    assert Counter(lease.job_id for lease in taken) == Counter(wanted)
    assert {lease.fence for lease in taken} == {lease.attempt for lease in taken} == {1}


def test_each_claim_raises_the_fence_by_one(store: Store) -> None:
    with store.writes.begin() as session:
        make_job(session)
    fences = []
    for _ in range(4):
        lease = claim(store).lease
        fences.append((lease.fence, lease.attempt))
        put_back(store, lease)
    assert fences == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_a_claim_holds_what_a_trainer_needs(store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session)
    found = claim(store)
    job = job_of(store, found.lease)
    assert found.spec == job.spec
    assert (found.dataset_name, found.dataset_version) == ("iris", job.dataset_version)
    assert found.dataset_schema["rows"] == {"train": 120, "test": 30, "validation": 0}
    assert found.checkpoints == []
    assert found.best is None
    assert (job.id, job.state, job.reason, job.attempts) == (job_id, JobState.RUNNING, None, 1)
    assert job.lease_until is not None
    assert job.started_at is not None
    assert 55_000 < job.lease_until - job.started_at <= 61_000


def test_the_first_claim_stays_the_start(store: Store) -> None:
    with store.writes.begin() as session:
        make_job(session)
    first = claim(store).lease
    started = job_of(store, first).started_at
    put_back(store, first)
    with store.writes.begin() as session:
        session.execute(update(Job).values(started_at=started - 1_000))
    assert job_of(store, claim(store).lease).started_at == started - 1_000


def test_nothing_is_claimed_where_nothing_waits(store: Store) -> None:
    with store.writes.begin() as session:
        assert leases.claim(session, "train@here", "cpu", 60) is None


def test_a_job_is_not_claimed_before_its_time(store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session)
        session.execute(update(Job).values(run_after_at=now_ms() + 60_000))
        assert leases.claim(session, "train@here", "cpu", 60) is None
        session.execute(update(Job).values(run_after_at=now_ms() - 1))
        found = leases.claim(session, "train@here", "cpu", 60)
    assert found is not None
    assert found.lease.job_id == job_id


@pytest.mark.parametrize("write", WRITES)
def test_a_write_with_an_old_fence_is_refused_and_changes_nothing(store: Store, write: str) -> None:
    with store.writes.begin() as session:
        old = make_claim(session).lease
        leases.write_epochs(session, old, make_epochs(0, 1, checkpoint_at=[1]), 60, None)
    put_back(store, old)
    claim(store, "another")
    before = everything(store)
    with pytest.raises(LeaseLost), store.writes.begin() as session:
        WRITES[write](session, old)
    assert everything(store) == before


@pytest.mark.parametrize("write", WRITES)
def test_a_write_after_the_end_is_refused_and_changes_nothing(store: Store, write: str) -> None:
    with store.writes.begin() as session:
        lease = make_claim(session).lease
        leases.end_cancelled(session, lease)
    before = everything(store)
    with pytest.raises(LeaseLost), store.writes.begin() as session:
        WRITES[write](session, lease)
    assert everything(store) == before


def test_a_sign_of_life_moves_the_lease_and_the_progress(store: Store) -> None:
    with store.writes.begin() as session:
        lease = make_claim(session, seconds=1).lease
    before = job_of(store, lease)
    with store.writes.begin() as session:
        leases.beat(session, lease, 60, 0.25)
    after = job_of(store, lease)
    assert after.lease_until > before.lease_until + 50_000
    assert after.epoch_fraction == 0.25
    assert after.revision == before.revision + 1


def test_epochs_are_stored_with_their_checkpoint(store: Store) -> None:
    best = {"epoch": 2, "metric": "loss", "value": 1 / 3}
    with store.writes.begin() as session:
        lease = make_claim(session).lease
        leases.beat(session, lease, 60, 0.9)
        leases.write_epochs(session, lease, make_epochs(0, 2, checkpoint_at=[1]), 60, best)
    job = job_of(store, lease)
    assert (job.epochs_done, job.epochs_covered, job.epoch_fraction, job.best) == (3, 2, 0.0, best)
    with store.reads.begin() as session:
        rows = session.scalars(select(Epoch).order_by(Epoch.epoch)).all()
        files = session.scalars(select(Checkpoint)).all()
    assert [(row.epoch, row.fence) for row in rows] == [(0, 1), (1, 1), (2, 1)]
    assert [row.metrics for row in rows] == [make_epoch(number).metrics for number in range(3)]
    assert [row.seconds for row in rows] == [make_epoch(number).seconds for number in range(3)]
    assert [(file.epoch, file.path) for file in files] == [(2, "checkpoints/e2-f1.npz")]


def test_epochs_never_share_a_timestamp(store: Store) -> None:
    with store.writes.begin() as session:
        lease = make_claim(session).lease
    for first in (0, 3):
        with store.writes.begin() as session:
            leases.write_epochs(session, lease, make_epochs(first, first + 2), 60, None)
    with store.writes.begin() as session:
        ahead = session.scalars(select(Epoch.ended_at).order_by(Epoch.epoch.desc())).first() + 100_000
        session.execute(update(Epoch).where(Epoch.epoch == 5).values(ended_at=ahead))
        leases.write_epochs(session, lease, make_epochs(6, 6), 60, None)
    with store.reads.begin() as session:
        times = session.scalars(select(Epoch.ended_at).order_by(Epoch.epoch)).all()
    assert times == sorted(set(times))
    assert times[-1] == ahead + 1


def test_epochs_may_be_written_twice(store: Store) -> None:
    with store.writes.begin() as session:
        lease = make_claim(session).lease
    results = make_epochs(0, 2, checkpoint_at=[2])
    for _ in range(2):
        with store.writes.begin() as session:
            leases.write_epochs(session, lease, results, 60, None)
    with store.reads.begin() as session:
        assert session.scalars(select(Epoch.epoch).order_by(Epoch.epoch)).all() == [0, 1, 2]
        assert session.scalars(select(Checkpoint.epoch)).all() == [3]


def test_a_batch_that_is_stored_in_part_is_completed(store: Store) -> None:
    with store.writes.begin() as session:
        lease = make_claim(session).lease
        leases.write_epochs(session, lease, make_epochs(0, 1, checkpoint_at=[1]), 60, None)
    with store.writes.begin() as session:
        leases.write_epochs(session, lease, make_epochs(0, 3, checkpoint_at=[1, 3]), 60, None)
    with store.reads.begin() as session:
        assert session.scalars(select(Epoch.epoch).order_by(Epoch.epoch)).all() == [0, 1, 2, 3]
        assert session.scalars(select(Checkpoint.epoch).order_by(Checkpoint.epoch)).all() == [2, 4]


def test_two_checkpoints_are_remembered(store: Store) -> None:
    with store.writes.begin() as session:
        lease = make_claim(session).lease
    for epoch in range(4):
        with store.writes.begin() as session:
            leases.write_epochs(session, lease, make_epochs(epoch, epoch, checkpoint_at=[epoch]), 60, None)
    with store.reads.begin() as session:
        assert session.scalars(select(Checkpoint.epoch).order_by(Checkpoint.epoch)).all() == [3, 4]


def test_the_next_claim_keeps_what_a_checkpoint_covers_and_drops_the_rest(store: Store) -> None:
    best = {"epoch": 1, "metric": "loss", "value": 0.5}
    with store.writes.begin() as session:
        lease = make_claim(session).lease
        leases.write_epochs(session, lease, make_epochs(0, 3, checkpoint_at=[0, 1]), 60, best)
    put_back(store, lease)
    again = claim(store)
    job = job_of(store, again.lease)
    assert (job.epochs_done, job.epochs_covered) == (2, 2)
    assert [file.epoch for file in again.checkpoints] == [2, 1]
    assert again.best == best
    with store.reads.begin() as session:
        assert session.scalars(select(Epoch.epoch).order_by(Epoch.epoch)).all() == [0, 1]
        assert session.get_one(Attempt, (lease.job_id, 2)).first_epoch == 2


def test_a_trainer_that_goes_back_further_takes_the_history_with_it(store: Store) -> None:
    with store.writes.begin() as session:
        lease = make_claim(session).lease
        leases.write_epochs(session, lease, make_epochs(0, 3, checkpoint_at=[1, 3]), 60, None)
    put_back(store, lease)
    again = claim(store).lease
    with store.writes.begin() as session:
        leases.checkpoint_skipped(session, again, "checkpoints/e4-f1.npz", "The file is torn.")
        leases.resumed(session, again, 2)
    job = job_of(store, again)
    assert (job.epochs_done, job.epochs_covered) == (2, 2)
    with store.reads.begin() as session:
        assert session.scalars(select(Epoch.epoch).order_by(Epoch.epoch)).all() == [0, 1]
        assert session.scalars(select(Checkpoint.epoch)).all() == [2]
        assert session.get_one(Attempt, (lease.job_id, 2)).first_epoch == 2
        assert "checkpoint_skipped" in session.scalars(select(Event.kind)).all()


def test_the_engine_and_the_start_are_known_while_it_trains_and_only_to_the_newest_fence(
    store: Store,
) -> None:
    with store.writes.begin() as session:
        old = make_claim(session).lease
        leases.engine_chosen(session, old, "graph", "Few steps.")
        leases.started_up(session, old, {"claim": 0.1, "fork": 0.25})
    job = job_of(store, old)
    assert (job.state, job.engine, job.engine_why) == (JobState.RUNNING, "graph", "Few steps.")
    assert job.startup == {"claim": 0.1, "fork": 0.25}
    put_back(store, old)
    claim(store)
    for write in (leases.engine_chosen, leases.started_up):
        arguments = ("xla", "Many steps.") if write is leases.engine_chosen else ({"fork": 9.0},)
        with pytest.raises(LeaseLost), store.writes.begin() as session:
            write(session, old, *arguments)
    assert job_of(store, old).engine == "graph"


def test_success_is_final_and_complete(store: Store) -> None:
    with store.writes.begin() as session:
        lease = make_claim(session).lease
        leases.write_epochs(session, lease, make_epochs(0, 4, checkpoint_at=[2]), 60, None)
        succeed(session, lease, sha256="e" * 64)
    job = job_of(store, lease)
    assert (job.state, job.reason) == (JobState.SUCCEEDED, Reason.FINISHED)
    assert (job.model_sha256, job.epochs_covered, job.lease_until) == ("e" * 64, 5, None)
    assert (job.timings, job.engine) == ({"fit": 1.5}, "fit")
    assert job.finished_at is not None
    with store.reads.begin() as session:
        attempt = session.get_one(Attempt, (lease.job_id, 1))
    assert attempt.reason is Reason.FINISHED
    assert attempt.ended_at is not None


def test_what_the_spec_asked_to_evaluate_is_stored(store: Store) -> None:
    with store.writes.begin() as session:
        found = make_claim(session)
        results = [EvaluationResult(Split.VALIDATION, {"loss": 0.5, "accuracy": None}, 24)]
        (id_,) = leases.store_evaluations(session, found.lease, make_owner(session).id, results)
    with store.reads.begin() as session:
        row = session.get_one(Evaluation, id_)
    assert (row.state, row.split, row.rows) == (EvaluationState.SUCCEEDED, Split.VALIDATION, 24)
    assert row.metrics == {"loss": 0.5, "accuracy": None}


def test_a_cancelled_job_keeps_its_epochs(store: Store) -> None:
    with store.writes.begin() as session:
        lease = make_claim(session).lease
        leases.write_epochs(session, lease, make_epochs(0, 2), 60, None)
        jobs.cancel(session, lease.job_id)
        leases.end_cancelled(session, lease)
    job = job_of(store, lease)
    assert (job.state, job.reason, job.epochs_covered) == (JobState.CANCELLED, Reason.USER_CANCELLED, 3)


def test_what_the_user_must_mend_fails_at_once(store: Store) -> None:
    for reason in (Reason.DIVERGED, Reason.BAD_SPEC, Reason.BAD_DATA, Reason.TIME_LIMIT, Reason.OOM_GPU):
        with store.writes.begin() as session:
            lease = make_claim(session).lease
            assert leases.end_failed(session, lease, reason, "It cannot work.") is JobState.FAILED
        job = job_of(store, lease)
        assert (job.reason, job.detail, job.lease_until) == (reason, "It cannot work.", None)


def test_a_lost_attempt_waits_longer_each_time_and_is_poison_at_the_third(store: Store) -> None:
    with store.writes.begin() as session:
        make_job(session)
    waits = []
    for _ in range(2):
        lease = claim(store).lease
        with store.writes.begin() as session:
            assert leases.end_failed(session, lease, Reason.LOST_WORKER, "gone") is JobState.QUEUED
            waits.append(session.scalar(select(Job.run_after_at - now_ms())))
            session.execute(update(Job).values(run_after_at=0))
    lease = claim(store).lease
    with store.writes.begin() as session:
        assert leases.end_failed(session, lease, Reason.LOST_WORKER, "gone") is JobState.FAILED
    assert 9_000 < waits[0] <= 10_000 < 19_000 < waits[1] <= 20_000
    assert job_of(store, lease).reason is Reason.POISON


def test_new_covered_epochs_make_attempts_worth_repeating(store: Store) -> None:
    with store.writes.begin() as session:
        make_job(session, fit__epochs=20)
    for number in range(5):
        lease = claim(store).lease
        with store.writes.begin() as session:
            leases.write_epochs(session, lease, make_epochs(number, number, checkpoint_at=[number]), 60, None)
        put_back(store, lease, Reason.INFRASTRUCTURE)
    lease = claim(store).lease
    with store.writes.begin() as session:
        leases.write_epochs(session, lease, make_epochs(5, 5, checkpoint_at=[5]), 60, None)
        assert leases.end_failed(session, lease, Reason.INFRASTRUCTURE, "gone") is JobState.FAILED
    assert job_of(store, lease).reason is Reason.INFRASTRUCTURE


def test_a_lost_attempt_of_an_unwanted_job_ends_it(store: Store) -> None:
    with store.writes.begin() as session:
        lease = make_claim(session).lease
        jobs.cancel(session, lease.job_id)
        assert leases.end_failed(session, lease, Reason.LOST_WORKER, "gone") is JobState.CANCELLED
    with store.reads.begin() as session:
        assert session.get_one(Attempt, (lease.job_id, 1)).reason is Reason.LOST_WORKER


def test_a_lease_is_over_when_its_time_is(store: Store) -> None:
    with store.writes.begin() as session:
        lease = make_claim(session).lease
        assert leases.expired(session) == []
    age(store, lease)
    with store.reads.begin() as session:
        assert leases.expired(session) == [lease]


def test_a_worker_that_starts_anew_ends_the_leases_of_its_earlier_life(store: Store) -> None:
    with store.writes.begin() as session:
        mine = make_claim(session, worker="train@mine").lease
        make_claim(session, worker="train@other")
        ended = make_claim(session, worker="train@mine").lease
        leases.end_cancelled(session, ended)
    with store.writes.begin() as session:
        assert leases.release_all(session, "train@mine") == 1
        assert leases.expired(session) == [mine]
