"""The order in which queued jobs start, and what people are told about it."""

from sqlalchemy import update
from sqlalchemy.orm import Session

from services import datasets, jobs, leases, results, workers
from services.models import Dataset, Job, Worker
from services.order import claimable, queued
from services.results import Urls
from services.states import DatasetState
from services.store import Store, now_ms
from tests.builders import make_claim, make_job, make_owner, make_spec

URLS = Urls(mlflow="http://mlflow.example")


def order(session: Session) -> list[str]:
    return [job.job_id for job in queued(session)]


def make_jobs(session: Session, owner: str, count: int) -> list[str]:
    """Queued jobs in the order of their ids: those of one millisecond have no other."""
    return sorted(make_job(session, owner) for _ in range(count))


def test_one_persons_many_jobs_do_not_stand_before_anothers_first(store: Store) -> None:
    with store.writes.begin() as session:
        many = make_jobs(session, "ada", 50)
        (one,) = make_jobs(session, "bob", 1)
        assert order(session) == [many[0], one, *many[1:]]


def test_who_has_less_running_comes_first(store: Store) -> None:
    with store.writes.begin() as session:
        first, *rest = make_jobs(session, "ada", 3)
        found = leases.claim(session, "train@here", "cpu", 60)
        assert found is not None
        assert found.lease.job_id == first
        late = make_jobs(session, "bob", 2)
        assert order(session) == [late[0], rest[0], late[1], rest[1]]


def test_a_job_that_waits_for_data_blocks_nobody(store: Store) -> None:
    with store.writes.begin() as session:
        waiting = make_job(session, dataset="wine", with_data=False)
        ready = make_job(session)
        assert order(session) == [ready, waiting]
        assert claimable(session)
        found = leases.claim(session, "train@here", "cpu", 60)
        assert found is not None
        assert found.lease.job_id == ready
        assert not claimable(session)
        assert leases.claim(session, "train@here", "cpu", 60) is None


def test_a_job_that_waits_for_its_next_try_blocks_nobody(store: Store) -> None:
    with store.writes.begin() as session:
        late = make_job(session)
        session.execute(update(Job).values(run_after_at=now_ms() + 60_000))
        ready = make_job(session)
        assert order(session) == [ready, late]


def test_a_queued_job_tells_its_place(store: Store) -> None:
    with store.writes.begin() as session:
        make_worker(session)
        make_job(session)
        make_job(session)
        first, second = order(session)
        places = [results.job(session, id_, URLS).queue for id_ in (first, second)]
    assert [(place.position, place.ahead, place.why) for place in places if place] == [
        (1, 0, "It is next."),
        (2, 1, "1 job is ahead of it."),
    ]


def make_worker(session: Session, *, ready: bool = True, slots: int = 1) -> None:
    workers.introduce(session, workers.Introduction("train@here", workers.TRAIN, slots, "cpu"))
    workers.seen(session, "train@here", ready=ready)


def why(session: Session, job_id: str) -> str:
    place = results.job(session, job_id, URLS).queue
    assert place is not None
    return place.why


def test_a_queued_job_tells_what_it_waits_for(store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session)
        assert why(session, job_id) == "No train worker is there; jobs start when one comes."
        make_worker(session, ready=False)
        assert "warming up" in why(session, job_id)
        make_worker(session)
        assert why(session, job_id) == "It is next."
        session.execute(update(Job).values(run_after_at=now_ms() + 60_000))
        assert why(session, job_id).startswith("It waits a little before the next try")


def test_a_queued_job_tells_that_the_slots_are_busy(store: Store) -> None:
    with store.writes.begin() as session:
        make_worker(session)
        make_claim(session)
        job_id = make_job(session)
        assert why(session, job_id).startswith("The one slot is busy with ")
        make_worker(session, slots=2)
        make_worker(session, slots=1)
        assert results.queue(session, URLS).why.startswith("The one slot is busy with ")


def test_a_worker_that_is_gone_is_not_counted(store: Store) -> None:
    with store.writes.begin() as session:
        make_worker(session)
        job_id = make_job(session)
        session.execute(update(Worker).values(seen_at=now_ms() - workers.SEEN_WITHIN_MS - 1))
        assert why(session, job_id).startswith("No train worker is there")
        assert results.present_workers(session) == []


def test_a_job_without_data_tells_that_it_is_being_fetched(store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session, with_data=False)
        assert session.get_one(Dataset, "iris").state is DatasetState.PROCESSING
        assert why(session, job_id) == "The dataset iris is being fetched; the job starts when it is there."


def test_the_queue_lists_running_jobs_then_waiting_ones_in_order(store: Store) -> None:
    with store.writes.begin() as session:
        make_worker(session, slots=2)
        running = make_claim(session, owner="ada").lease.job_id
        hers = make_job(session, "ada")
        known = datasets.find(session, "iris")
        his = jobs.submit(session, make_owner(session, "bob").id, make_spec(), known, None).job_id
        found = results.queue(session, URLS)
    assert [job.id for job in found.jobs] == [running, his, hers]
    assert (found.running, found.queued, found.slots, found.why) == (1, 2, 2, None)
    assert [(worker.name, worker.busy) for worker in found.workers] == [("train@here", 1)]


def prefer(session: Session, job_id: str, priority: int) -> None:
    jobs.patch(session, job_id, {"priority": priority})


def test_priority_reorders_a_persons_own_jobs_and_moves_nobody_elses(store: Store) -> None:
    with store.writes.begin() as session:
        ada = make_jobs(session, "ada", 3)
        bob = make_jobs(session, "bob", 2)
        assert order(session) == [ada[0], bob[0], ada[1], bob[1], ada[2]]
        prefer(session, ada[2], 100)
        prefer(session, ada[0], -1)
        prefer(session, bob[1], 1)
        assert order(session) == [ada[2], bob[1], ada[1], bob[0], ada[0]]
        found = leases.claim(session, "train@here", "cpu", 60)
        assert found is not None
        assert found.lease.job_id == ada[2]


def test_no_priority_helps_a_job_that_cannot_start(store: Store) -> None:
    with store.writes.begin() as session:
        waiting = make_job(session, dataset="wine", with_data=False)
        (ready,) = make_jobs(session, "ada", 1)
        prefer(session, waiting, 100)
        assert order(session) == [ready, waiting]
