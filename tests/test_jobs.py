"""Jobs: submit, repeated submit, cancel, delete."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Thread

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from services import datasets, jobs, leases
from services.errors import Conflict, KeyReused, NotFound
from services.models import Attempt, Dataset, Epoch, Event, IdempotencyKey, Job, Look
from services.spec import TrainSpec
from services.states import DatasetState, JobState, Reason
from services.store import Store
from tests.builders import (
    VERSIONS,
    make_claim,
    make_dataset,
    make_epochs,
    make_job,
    make_owner,
    make_spec,
    make_success,
)
from tests.conftest import wait_for_a_lock

CLIENTS = 16


def submit(session: Session, spec: TrainSpec, request: jobs.Request | None = None) -> jobs.Accepted:
    known = datasets.find(session, spec.dataset_name)
    return jobs.submit(session, make_owner(session).id, spec, known, request)


def test_a_submit_stores_the_resolved_spec(store: Store) -> None:
    spec = make_spec(seed=7)
    with store.writes.begin() as session:
        version = make_dataset(session)
        accepted = submit(session, spec)
    with store.reads.begin() as session:
        job = session.get_one(Job, accepted.job_id)
    assert accepted.is_new
    assert job.state is JobState.QUEUED
    assert job.reason is None
    assert TrainSpec.model_validate(job.spec) == spec
    assert job.spec["fit"]["shuffle"] is True
    assert job.spec["model"]["layers"][0]["kernel_initializer"]["type"] == "GlorotUniform"
    assert job.spec_sha256 == jobs.spec_digest(spec.model_dump(mode="json"))
    assert (job.dataset_name, job.dataset_version) == ("iris", version)
    assert job.params_count == 4 * 8 + 8 + 8 * 3 + 3
    assert (job.epochs, job.epochs_done, job.fence, job.attempts) == (5, 0, 0, 0)
    assert job.run_after_at <= job.created_at


def test_equal_specs_have_equal_digests_in_any_order_of_keys() -> None:
    document = make_spec().model_dump(mode="json")
    assert jobs.spec_digest(document) == jobs.spec_digest(dict(reversed(document.items())))
    assert jobs.spec_digest(document) != jobs.spec_digest(document | {"seed": 43})


def test_a_repeated_submit_gives_the_job_that_is_there(store: Store) -> None:
    request = jobs.Request("again", "a" * 64)
    with store.writes.begin() as session:
        first = submit(session, make_spec(), request)
    with store.writes.begin() as session:
        second = submit(session, make_spec(), request)
    assert second == jobs.Accepted(first.job_id, is_new=False)


def test_the_same_key_with_another_body_is_refused(store: Store) -> None:
    with store.writes.begin() as session:
        submit(session, make_spec(), jobs.Request("again", "a" * 64))
    with pytest.raises(KeyReused, match="'again' was used before"), store.writes.begin() as session:
        submit(session, make_spec(), jobs.Request("again", "b" * 64))
    with store.reads.begin() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 1


def test_keys_of_different_people_do_not_meet(store: Store) -> None:
    with store.writes.begin() as session:
        known = datasets.find(session, "iris")
        request = jobs.Request("again", "a" * 64)
        made = [
            jobs.submit(session, make_owner(session, name).id, make_spec(), known, request)
            for name in ("ada", "bob")
        ]
    assert all(accepted.is_new for accepted in made)
    assert len({accepted.job_id for accepted in made}) == 2


@pytest.mark.parametrize("with_data", [True, False], ids=["ready data", "data to fetch"])
def test_of_parallel_submits_with_one_key_one_makes_a_job_and_all_get_it(
    store: Store, with_data: bool
) -> None:
    with store.writes.begin() as session:
        make_owner(session)
        if with_data:
            make_dataset(session)
    barrier = Barrier(CLIENTS)

    def submit_once() -> jobs.Accepted:
        barrier.wait()
        with store.writes.begin() as session:
            return submit(session, make_spec(), jobs.Request("one", "a" * 64))

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = [future.result() for future in [pool.submit(submit_once) for _ in range(CLIENTS)]]
    assert sum(answer.is_new for answer in answers) == 1
    assert len({answer.job_id for answer in answers}) == 1
    with store.reads.begin() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 1
        assert session.scalar(select(func.count()).select_from(IdempotencyKey)) == 1


def test_parallel_first_submits_for_one_dataset_all_succeed_and_ask_for_it_once(store: Store) -> None:
    with store.writes.begin() as session:
        make_owner(session)
    barrier = Barrier(8)

    def submit_once() -> jobs.Accepted:
        barrier.wait()
        with store.writes.begin() as session:
            return submit(session, make_spec())

    with ThreadPoolExecutor(8) as pool:
        answers = [future.result() for future in [pool.submit(submit_once) for _ in range(8)]]
    assert len({answer.job_id for answer in answers}) == 8
    with store.reads.begin() as session:
        assert [row.state for row in session.scalars(select(Dataset))] == [DatasetState.PROCESSING]


def test_a_job_accepted_just_after_its_dataset_became_ready_has_its_version(store: Store) -> None:
    with store.writes.begin() as session:
        before = datasets.find(session, "iris")
        assert before.version is None
        version = make_dataset(session)
    with store.writes.begin() as session:
        job_id = jobs.submit(session, make_owner(session).id, make_spec(), before, None).job_id
        assert session.get_one(Job, job_id).dataset_version == version


def test_a_dataset_accepted_while_a_submit_is_under_way_reaches_its_job(store: Store) -> None:
    with store.writes.begin() as session:
        owner = make_owner(session)
        datasets.want(session, "iris")
    ready = Thread(target=_make_ready, args=(store,))
    with store.writes.begin() as session:
        job_id = jobs.submit(session, owner.id, make_spec(), datasets.find(session, "iris"), None).job_id
        ready.start()
        wait_for_a_lock(store, ready)
    ready.join(10)
    with store.reads.begin() as session:
        assert session.get_one(Job, job_id).dataset_version == VERSIONS["iris"]


def _make_ready(store: Store) -> None:
    with store.writes.begin() as session:
        make_dataset(session)


def test_a_queued_job_is_cancelled_at_once(store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session)
    with store.writes.begin() as session:
        assert jobs.cancel(session, job_id) is JobState.CANCELLED
    with store.reads.begin() as session:
        job = session.get_one(Job, job_id)
    assert (job.state, job.reason) == (JobState.CANCELLED, Reason.USER_CANCELLED)
    assert job.detail == "Cancelled while it was queued."
    assert job.finished_at is not None
    assert job.revision == 2


def test_a_running_job_gets_the_wish_and_keeps_its_state(store: Store) -> None:
    with store.writes.begin() as session:
        claim = make_claim(session)
    for _ in range(2):
        with store.writes.begin() as session:
            assert jobs.cancel(session, claim.lease.job_id) is JobState.RUNNING
            assert leases.is_unwanted(session, claim.lease)
    with store.reads.begin() as session:
        assert _kinds(session, claim.lease.job_id).count("cancel_requested") == 1


def _kinds(session: Session, job_id: str) -> list[str]:
    return list(session.scalars(select(Event.kind).where(Event.job_id == job_id).order_by(Event.seq)))


def test_cancelling_a_cancelled_job_changes_nothing(store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session)
        jobs.cancel(session, job_id)
    with store.writes.begin() as session:
        assert jobs.cancel(session, job_id) is JobState.CANCELLED
        assert session.get_one(Job, job_id).revision == 2
        assert _kinds(session, job_id) == ["state", "state"]


def test_a_job_that_succeeded_cannot_be_cancelled(store: Store) -> None:
    with store.writes.begin() as session:
        claim = make_success(session)
    with pytest.raises(Conflict, match="has succeeded already"), store.writes.begin() as session:
        jobs.cancel(session, claim.lease.job_id)


def test_a_job_that_failed_cannot_be_cancelled(store: Store) -> None:
    with store.writes.begin() as session:
        claim = make_claim(session)
        leases.end_failed(session, claim.lease, Reason.DIVERGED, "The loss is NaN.")
    with pytest.raises(Conflict, match="has failed already"), store.writes.begin() as session:
        jobs.cancel(session, claim.lease.job_id)


def test_a_cancel_that_meets_the_end_of_a_lost_attempt_is_not_forgotten(store: Store) -> None:
    """The attempt's end waits for the cancel's transaction, and must see its wish."""
    with store.writes.begin() as session:
        claim = make_claim(session)
    end = Thread(target=_lose, args=(store, claim.lease))
    with store.writes.begin() as session:
        jobs.cancel(session, claim.lease.job_id)
        end.start()
        wait_for_a_lock(store, end)
    end.join(10)
    with store.reads.begin() as session:
        assert session.get_one(Job, claim.lease.job_id).state is JobState.CANCELLED


def _lose(store: Store, lease: leases.Lease) -> None:
    with store.writes.begin() as session:
        leases.end_failed(session, lease, Reason.LOST_WORKER, "gone")


def test_a_cancel_that_meets_a_requeue_tells_the_truth(store: Store) -> None:
    """The cancel waits for the requeue's transaction, and must find the job queued."""
    with store.writes.begin() as session:
        claim = make_claim(session)
    said: list[JobState] = []

    def cancel() -> None:
        with store.writes.begin() as session:
            said.append(jobs.cancel(session, claim.lease.job_id))

    other = Thread(target=cancel)
    with store.writes.begin() as session:
        leases.end_failed(session, claim.lease, Reason.LOST_WORKER, "gone")
        other.start()
        wait_for_a_lock(store, other)
    other.join(10)
    with store.reads.begin() as session:
        assert said == [session.get_one(Job, claim.lease.job_id).state] == [JobState.CANCELLED]


@pytest.mark.parametrize("act", [jobs.cancel, jobs.delete])
def test_what_is_not_there_is_not_found(store: Store, act: object) -> None:
    with pytest.raises(NotFound, match="There is no job 'none'"), store.writes.begin() as session:
        act(session, "none")  # type: ignore[operator]


def test_a_job_that_has_not_ended_cannot_be_deleted(store: Store) -> None:
    with store.writes.begin() as session:
        running = make_claim(session).lease.job_id
        queued = make_job(session)
    for job_id, state in ((running, "running"), (queued, "queued")):
        with pytest.raises(Conflict, match=f"is {state}; cancel it first"), store.writes.begin() as session:
            jobs.delete(session, job_id)


def test_deleting_a_job_removes_all_its_rows_but_its_looks(store: Store) -> None:
    request = jobs.Request("once", "a" * 64)
    with store.writes.begin() as session:
        make_dataset(session)
        job_id = submit(session, make_spec(), request).job_id
        claim = leases.claim(session, "train@here", "cpu", 60)
        assert claim is not None
        leases.write_epochs(session, claim.lease, make_epochs(0, 4, checkpoint_at=[4]), 60, None)
        leases.end_failed(session, claim.lease, Reason.DIVERGED, "The loss is NaN.")
        _look(session, job_id)
    with store.writes.begin() as session:
        jobs.delete(session, job_id)
    with store.reads.begin() as session:
        for table in (Job, Attempt, Epoch, Event, IdempotencyKey):
            assert session.scalar(select(func.count()).select_from(table)) == 0, table
        assert session.scalars(select(Look.job_id)).all() == [job_id]
    with store.writes.begin() as session:
        assert submit(session, make_spec(), request).is_new


def _look(session: Session, job_id: str) -> None:
    columns = (
        "id, dataset_version, dataset_name, job_id, subject_id, subject, "
        "owner_name, why, looks_before, looked_at"
    )
    values = "'look', 'v', 'iris', :job, 'e', 'evaluation', 'ada', 'curious', 0, 1"
    session.execute(text(f"INSERT INTO looks ({columns}) VALUES ({values})"), {"job": job_id})


def test_events_are_numbered_without_gaps(store: Store) -> None:
    with store.writes.begin() as session:
        claim = make_claim(session)
        jobs.cancel(session, claim.lease.job_id)
        leases.end_cancelled(session, claim.lease)
    with store.reads.begin() as session:
        events = session.scalars(select(Event).order_by(Event.seq)).all()
    assert [(event.seq, event.kind, event.data.get("state"), event.fence) for event in events] == [
        (1, "state", "queued", 0),
        (2, "state", "running", 1),
        (3, "cancel_requested", None, 1),
        (4, "state", "cancelled", 1),
    ]


def test_immediate_transactions_lose_no_update(store: Store) -> None:
    """Reads a counter and writes it back: with SQLite's own default most increments were lost."""
    with store.writes.begin() as session:
        job_id = make_job(session)

    def count() -> None:
        for _ in range(25):
            with store.writes.begin() as session:
                query = select(Job.params_count).where(Job.id == job_id).with_for_update()
                seen = session.scalar(query) or 0
                session.execute(update(Job).where(Job.id == job_id).values(params_count=seen + 1))

    before = _params(store, job_id)
    threads = [Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert _params(store, job_id) == before + 100


def _params(store: Store, job_id: str) -> int:
    with store.reads.begin() as session:
        return session.get_one(Job, job_id).params_count


def test_what_is_read_in_one_transaction_is_of_one_moment(store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session)
    with store.reads.begin() as reading:
        before = reading.scalar(select(Job.state).where(Job.id == job_id))
        with store.writes.begin() as session:
            jobs.cancel(session, job_id)
        assert reading.scalar(select(Job.state).where(Job.id == job_id)) is before is JobState.QUEUED
