"""Evaluations asked for later, and the ledger of looks at sealed test splits."""

from threading import Barrier, Thread

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from services import errands, evaluations, results
from services.errands import ErrandLease
from services.errors import Conflict, KeyReused, LeaseLost, NotFound
from services.jobs import Request
from services.models import Evaluation, Job, Look
from services.states import EvaluationState, Split
from services.store import Store, now_ms
from tests.builders import make_claim, make_owner, make_success


def ask(session: Session, job_id: str, split: Split = Split.TEST, owner: str = "ada") -> str:
    return evaluations.ask(session, job_id, make_owner(session, owner).id, split, f"{owner} is curious").id


def age(session: Session) -> None:
    """Let the leases of evaluations be over."""
    session.execute(update(Evaluation).values(lease_until=now_ms() - 1))


def claim(session: Session) -> ErrandLease:
    found = evaluations.claim(session, "housekeeping@here", 60)
    assert found is not None
    return found.lease


def state_of(session: Session, id_: str) -> EvaluationState:
    state = session.scalar(select(Evaluation.state).where(Evaluation.id == id_))
    assert state is not None
    return state


def test_a_look_is_in_the_ledger_before_there_is_a_result(store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
        id_ = ask(session, job_id)
    with store.reads.begin() as session:
        assert state_of(session, id_) is EvaluationState.QUEUED
        (look,) = session.scalars(select(Look)).all()
    assert (look.subject_id, look.job_id, look.dataset_name) == (id_, job_id, "iris")
    assert (look.owner_name, look.why, look.looks_before) == ("ada", "ada is curious", 0)


def test_looks_at_the_open_splits_are_not_counted(store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
        ask(session, job_id, Split.TRAIN)
        ask(session, job_id, Split.VALIDATION)
        assert session.scalars(select(Look)).all() == []


def test_looks_before_are_counted_over_all_jobs_and_people_of_one_version(store: Store) -> None:
    with store.writes.begin() as session:
        first, second = (make_success(session).lease.job_id for _ in range(2))
        other = make_success(session, dataset="wine").lease.job_id
        for job_id, owner in ((first, "ada"), (second, "bob"), (first, "bob"), (other, "ada")):
            ask(session, job_id, owner=owner)
        counted = session.scalars(select(Look.looks_before).where(Look.dataset_name == "iris"))
        assert sorted(counted) == [0, 1, 2]
        assert session.scalar(select(Look.looks_before).where(Look.dataset_name == "wine")) == 0


def test_looks_at_once_are_counted_one_after_the_other(store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
    barrier = Barrier(6)

    def look() -> None:
        barrier.wait()
        with store.writes.begin() as session:
            ask(session, job_id)

    threads = [Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with store.reads.begin() as session:
        assert sorted(session.scalars(select(Look.looks_before))) == [0, 1, 2, 3, 4, 5]


def test_only_a_job_with_a_model_can_be_evaluated(store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_claim(session).lease.job_id
    with pytest.raises(Conflict, match="is running: only a succeeded job"), store.writes.begin() as session:
        ask(session, job_id)
    with pytest.raises(NotFound, match="no job 'none'"), store.writes.begin() as session:
        ask(session, "none")
    with store.reads.begin() as session:
        assert session.scalars(select(Look)).all() == []


def test_a_job_without_validation_split_has_none_to_evaluate(store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session, split__validation=None).lease.job_id
    with pytest.raises(Conflict, match="no validation split"), store.writes.begin() as session:
        ask(session, job_id, Split.VALIDATION)


def test_a_claim_holds_what_the_process_needs(store: Store) -> None:
    with store.writes.begin() as session:
        job = make_success(session, sha256="e" * 64)
        id_ = ask(session, job.lease.job_id)
        found = evaluations.claim(session, "housekeeping@here", 60)
    assert found is not None
    assert found.lease == ErrandLease(Evaluation, id_, 1)
    assert (found.job_id, found.split, found.model_sha256) == (job.lease.job_id, Split.TEST, "e" * 64)
    assert (found.spec, found.dataset_version) == (job.spec, job.dataset_version)


def test_the_oldest_is_claimed_first_and_each_once(store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
        asked = [ask(session, job_id, Split.TRAIN) for _ in range(3)]
        taken = [claim(session).id for _ in asked]
        assert taken == sorted(asked)
        assert evaluations.claim(session, "housekeeping@here", 60) is None


def test_two_claimers_at_once_take_different_evaluations(store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
        for _ in range(8):
            ask(session, job_id, Split.TRAIN)
    taken: list[str] = []

    def take() -> None:
        for _ in range(2):
            with store.writes.begin() as session:
                taken.append(claim(session).id)

    threads = [Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(taken) == len(set(taken)) == 8


def test_success_makes_the_job_unsynced_again(store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
        session.execute(update(Job).values(mlflow_synced_at=now_ms()))
        before = session.scalar(select(Job.revision)) or 0
        id_ = ask(session, job_id)
        evaluations.succeed(session, claim(session), {"loss": 0.5, "accuracy": None}, 30)
    with store.reads.begin() as session:
        answer = results.evaluation(session, job_id, id_)
        job = session.get_one(Job, job_id)
    assert (answer.state, answer.rows, answer.metrics) == (EvaluationState.SUCCEEDED, 30, {"loss": 0.5})
    assert (job.mlflow_synced_at, job.revision) == (None, before + 1)


def test_an_evaluation_whose_process_was_lost_is_claimed_again_with_a_new_fence(store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
        ask(session, job_id)
        old = claim(session)
        age(session)
        new = claim(session)
    assert new == ErrandLease(Evaluation, old.id, 2)
    writes = (
        lambda session: errands.beat(session, old, 60),
        lambda session: evaluations.succeed(session, old, {"loss": 0.0}, 30),
        lambda session: errands.fail(session, old, "no"),
        lambda session: errands.give_back(session, old, "no"),
    )
    for write in writes:
        with pytest.raises(LeaseLost), store.writes.begin() as session:
            write(session)
    with store.reads.begin() as session:
        assert state_of(session, new.id) is EvaluationState.RUNNING


def test_three_lost_processes_make_a_failure(store: Store) -> None:
    with store.writes.begin() as session:
        id_ = ask(session, make_success(session).lease.job_id)
        for _ in range(errands.MOST_ATTEMPTS):
            assert errands.abandon(session, Evaluation) == 0
            claim(session)
            age(session)
        assert evaluations.claim(session, "housekeeping@here", 60) is None
        assert errands.abandon(session, Evaluation) == 1
    with store.reads.begin() as session:
        row = session.get_one(Evaluation, id_)
    assert (row.state, row.detail) == (EvaluationState.FAILED, "Its process was lost 3 times.")
    assert row.finished_at is not None


def test_three_processes_that_were_seen_to_die_make_a_failure(store: Store) -> None:
    with store.writes.begin() as session:
        id_ = ask(session, make_success(session).lease.job_id)
        states = []
        for _ in range(errands.MOST_ATTEMPTS):
            errands.give_back(session, claim(session), "It was killed by signal 9.")
            states.append(state_of(session, id_))
    assert states == [EvaluationState.QUEUED, EvaluationState.QUEUED, EvaluationState.FAILED]


def test_a_worker_that_comes_back_gives_up_what_it_held(store: Store) -> None:
    with store.writes.begin() as session:
        ask(session, make_success(session).lease.job_id)
        first = claim(session)
        assert evaluations.claim(session, "housekeeping@here", 60) is None
        assert errands.release_all(session, Evaluation, "housekeeping@there") == 0
        assert errands.release_all(session, Evaluation, "housekeeping@here") == 1
        second = claim(session)
    assert (second.id, second.fence) == (first.id, first.fence + 1)


def test_the_same_key_asks_once(store: Store) -> None:
    request, other = Request("k", "1" * 64), Request("k", "2" * 64)
    with store.writes.begin() as session:
        job_id, owner = make_success(session).lease.job_id, make_owner(session).id
        first = evaluations.ask(session, job_id, owner, Split.TEST, "report", request)
        again = evaluations.ask(session, job_id, owner, Split.TEST, "report", request)
        assert (first.is_new, again.is_new, again.id) == (True, False, first.id)
        assert evaluations.ask(
            session, job_id, make_owner(session, "bob").id, Split.TEST, "x", request
        ).is_new
    with pytest.raises(KeyReused), store.writes.begin() as session:
        evaluations.ask(session, job_id, owner, Split.TRAIN, None, other)
    with store.reads.begin() as session:
        assert len(session.scalars(select(Look)).all()) == 2


def test_parallel_requests_with_one_key_ask_once(store: Store) -> None:
    with store.writes.begin() as session:
        job_id, owner = make_success(session).lease.job_id, make_owner(session).id
    barrier, asked = Barrier(4), []

    def ask_too() -> None:
        barrier.wait()
        with store.writes.begin() as session:
            wish = evaluations.ask(session, job_id, owner, Split.TEST, "report", Request("k", "1" * 64))
        asked.append(wish)

    threads = [Thread(target=ask_too) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len({wish.id for wish in asked}) == 1
    assert [wish.is_new for wish in asked].count(True) == 1
    with store.reads.begin() as session:
        assert len(session.scalars(select(Look)).all()) == 1


def test_an_interrupted_try_does_not_count(store: Store) -> None:
    with store.writes.begin() as session:
        id_ = ask(session, make_success(session).lease.job_id)
        for _ in range(errands.MOST_ATTEMPTS + 1):
            errands.interrupt(session, claim(session))
        assert state_of(session, id_) is EvaluationState.QUEUED
