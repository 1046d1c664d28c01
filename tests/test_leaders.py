"""One leader a loop, as a row that expires."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from sqlalchemy import update

from services.leaders import lead, resign
from services.models import Leader
from services.store import Store, now_ms


def tries(store: Store, holder: str, name: str = "reconciler") -> bool:
    with store.writes.begin() as session:
        return lead(session, name, holder, 30)


def test_the_first_leads_and_stays_leader(store: Store) -> None:
    assert tries(store, "one")
    assert not tries(store, "two")
    assert tries(store, "one")


def test_each_loop_has_its_own_leader(store: Store) -> None:
    assert tries(store, "one", "reconciler")
    assert tries(store, "two", "exporter")


def test_a_dead_leader_is_followed_by_another(store: Store) -> None:
    assert tries(store, "one")
    with store.writes.begin() as session:
        session.execute(update(Leader).values(until=now_ms() - 1))
    assert tries(store, "two")
    assert not tries(store, "one")


def test_a_leader_that_resigns_is_followed_at_once(store: Store) -> None:
    assert tries(store, "one", "reconciler")
    assert tries(store, "one", "exporter")
    with store.writes.begin() as session:
        resign(session, "one")
    assert tries(store, "two", "reconciler")
    assert tries(store, "two", "exporter")


def test_of_many_at_once_one_leads(store: Store) -> None:
    for round_ in range(5):
        barrier = Barrier(6)

        def run(holder: str, name: str = f"loop {round_}", barrier: Barrier = barrier) -> bool:
            barrier.wait()
            return tries(store, holder, name)

        with ThreadPoolExecutor(6) as pool:
            assert sum(pool.map(run, map(str, range(6)))) == 1
