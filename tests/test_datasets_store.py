"""Datasets in SQL: asked for, taken by a reader, accepted or rejected, and the jobs that wait."""

from threading import Barrier, Thread

import pytest
from sqlalchemy import select, update

from services import datasets
from services.catalogue import CATALOGUE
from services.errors import NotFound
from services.models import Dataset, Event, Job
from services.states import DatasetState, JobState, Reason
from services.store import Store, now_ms
from tests.builders import VERSIONS, make_dataset, make_job

SCHEMA = CATALOGUE["iris"].schema


def test_a_catalogue_dataset_is_known_before_it_is_there(store: Store) -> None:
    with store.reads.begin() as session:
        known = datasets.find(session, "iris")
        described = datasets.describe(session, "iris")
    assert (known.schema, known.version) == (SCHEMA, None)
    assert (described.state, described.version) == (DatasetState.AVAILABLE, None)


def test_what_is_unknown_is_not_found(store: Store) -> None:
    with store.reads.begin() as session:
        with pytest.raises(NotFound, match="no dataset 'moon'"):
            datasets.find(session, "moon")
        with pytest.raises(NotFound):
            datasets.describe(session, "moon")


def test_a_wanted_dataset_is_taken_once(store: Store) -> None:
    with store.writes.begin() as session:
        assert datasets.take(session) is None
        assert datasets.want(session, "iris") is None
        datasets.want(session, "iris")
    with store.writes.begin() as session:
        assert datasets.take(session) == "iris"
    with store.writes.begin() as session:
        assert datasets.take(session) is None


def test_readers_at_once_take_different_datasets(store: Store) -> None:
    names = ["digits", "iris", "wine"]
    with store.writes.begin() as session:
        for name in names:
            datasets.want(session, name)
    barrier, taken = Barrier(3), list[str | None]()

    def take() -> None:
        barrier.wait()
        with store.writes.begin() as session:
            taken.append(datasets.take(session))

    threads = [Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with store.writes.begin() as session:
        # A reader that met a locked row may have gone away empty-handed; the next look finds what is left.
        taken += [datasets.take(session) for _ in range(taken.count(None))]
    assert sorted(filter(None, taken)) == names


def test_a_dataset_whose_reader_died_is_taken_again(store: Store) -> None:
    with store.writes.begin() as session:
        datasets.want(session, "iris")
        datasets.take(session)
        session.execute(update(Dataset).values(updated_at=now_ms() - datasets.READER_LEASE_MS - 1))
        assert datasets.take(session) == "iris"


def test_a_reader_that_gives_signs_of_life_keeps_its_dataset(store: Store) -> None:
    with store.writes.begin() as session:
        datasets.want(session, "iris")
        datasets.take(session)
        session.execute(update(Dataset).values(updated_at=now_ms() - datasets.READER_LEASE_MS - 1))
        datasets.touch(session, "iris")
        assert datasets.take(session) is None


def test_an_accepted_dataset_reaches_the_jobs_that_wait_for_it(store: Store) -> None:
    with store.writes.begin() as session:
        waiting = [make_job(session, with_data=False) for _ in range(2)]
        other = make_job(session, dataset="wine", with_data=False)
        datasets.take(session)
    with store.writes.begin() as session:
        assert datasets.accept(session, "iris", VERSIONS["iris"], SCHEMA) == 2
    with store.reads.begin() as session:
        jobs = [session.get_one(Job, id_) for id_ in waiting]
        assert {(job.dataset_version, job.revision) for job in jobs} == {(VERSIONS["iris"], 2)}
        assert session.get_one(Job, other).dataset_version is None
        assert datasets.describe(session, "iris").state is DatasetState.READY


def test_a_rejected_dataset_fails_the_jobs_that_wait_for_it_and_says_why(store: Store) -> None:
    with store.writes.begin() as session:
        waiting = make_job(session, with_data=False)
        other = make_job(session, dataset="wine", with_data=False)
        assert datasets.reject(session, "iris", "No source answered: a, b.") == 1
    with store.reads.begin() as session:
        job = session.get_one(Job, waiting)
        assert (job.state, job.reason) == (JobState.FAILED, Reason.BAD_DATA)
        assert job.detail == "The dataset iris could not be read. No source answered: a, b."
        assert job.finished_at is not None
        assert session.get_one(Job, other).state is JobState.QUEUED
        assert datasets.describe(session, "iris").problem == "No source answered: a, b."
        events = session.scalars(select(Event.data).where(Event.job_id == waiting).order_by(Event.seq)).all()
    assert [event["state"] for event in events] == ["queued", "failed"]


def test_a_rejected_dataset_is_tried_again_for_the_next_job(store: Store) -> None:
    with store.writes.begin() as session:
        datasets.want(session, "iris")
        datasets.reject(session, "iris", "No source answered.")
        assert datasets.take(session) is None
        make_job(session, with_data=False)
        assert datasets.describe(session, "iris").problem is None
        assert datasets.take(session) == "iris"


def test_a_ready_dataset_stays_ready_when_it_is_wanted(store: Store) -> None:
    with store.writes.begin() as session:
        version = make_dataset(session)
        assert datasets.want(session, "iris") == version
        assert datasets.describe(session, "iris").state is DatasetState.READY


def test_the_same_content_twice_is_one_version(store: Store) -> None:
    with store.writes.begin() as session:
        make_dataset(session)
        make_dataset(session)
        assert datasets.find(session, "iris", VERSIONS["iris"]).version == VERSIONS["iris"]


def test_a_version_is_found_by_its_first_digits_if_they_name_one(store: Store) -> None:
    first, second = "ab" * 32, "ab" * 31 + "cd"
    with store.writes.begin() as session:
        datasets.want(session, "iris")
        for version in (first, second):
            datasets.accept(session, "iris", version, SCHEMA)
        assert datasets.find(session, "iris").version == second
        assert datasets.find(session, "iris", first).version == first
        for unclear in ("ab" * 31, "ab", "abababa_", "ffffffff", "%" * 8):
            with pytest.raises(NotFound, match="dataset version"):
                datasets.find(session, "iris", unclear)
        with pytest.raises(NotFound):
            datasets.find(session, "wine", first)
        described = datasets.describe_version(session, "iris", first)
        assert (described.version, described.state) == (first, DatasetState.READY)


def test_all_names_are_listed(store: Store) -> None:
    with store.writes.begin() as session:
        make_dataset(session)
        assert datasets.names(session) == sorted(CATALOGUE)


def test_the_sources_that_were_asked_are_kept(store: Store) -> None:
    asked = [{"name": "the cache", "why": "It is empty."}, {"name": "a package", "why": None}]
    with store.writes.begin() as session:
        datasets.want(session, "iris")
        assert datasets.describe(session, "iris").sources == []
        datasets.accept(session, "iris", VERSIONS["iris"], SCHEMA, asked)
        found = datasets.describe(session, "iris").sources
    assert [source.model_dump() for source in found] == asked
