"""Event streams through the real server: order, resuming anywhere, rewinds, ends; held to what SQL says."""

import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import psycopg
import pytest
from flask import Flask
from psycopg import sql
from sqlalchemy import select, update

from api.server import MOST_DESCRIPTORS
from api.streams import Streams
from services import jobs, leases, results
from services.leases import Claim
from services.models import Deletion, Event, Job
from services.states import Reason
from services.store import Store
from tests.builders import make_claim, make_epochs, make_job, make_success, succeed
from tests.conftest import free_port, wait_until
from tests.postgres import USER, Postgres
from tests.servers import Message, Stream, open_stream, running_server

CHECKOUT = Path(__file__).parents[1]
NAMES = {"state", "epoch", "progress", "done", "job", "deleted", ":"}


@pytest.fixture
def client(app: Flask, key: str) -> Iterator[httpx.Client]:
    """Ada's client of the real server."""
    with running_server(app) as url, client_at(url, key) as client:
        yield client


def client_at(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"})


def story(job_id: str) -> str:
    return f"/v1/jobs/{job_id}/events"


def write(store: Store, claim: Claim, first: int, last: int, *checkpoints: int) -> None:
    with store.writes.begin() as session:
        leases.write_epochs(
            session, claim.lease, make_epochs(first, last, checkpoint_at=checkpoints), 60, None
        )


def points_in_sql(store: Store, job_id: str) -> dict[int, dict[str, Any]]:
    with store.reads.begin() as session:
        return {
            row.epoch: {
                "epoch": row.epoch,
                "metrics": row.metrics,
                "learning_rate": row.learning_rate,
                "seconds": row.seconds,
            }
            for row in results.epochs(session, job_id)
        }


def events_in_sql(store: Store, job_id: str) -> list[tuple[int, str, dict[str, Any]]]:
    with store.reads.begin() as session:
        rows = session.scalars(select(Event).where(Event.job_id == job_id).order_by(Event.seq))
        return [(row.seq, row.kind, row.data) for row in rows]


def points(messages: list[Message]) -> list[int]:
    return [message.data["epoch"] for message in messages if message.name == "epoch"]


def told_events(messages: list[Message]) -> list[tuple[int, str, dict[str, Any]]]:
    told = [message.data for message in messages if message.name == "state"]
    return [(data["seq"], data["kind"], data["data"]) for data in told]


def until(stream: Stream, is_last: Callable[[Message], bool]) -> list[Message]:
    found = []
    for message in stream:
        assert message.name in NAMES
        found.append(message)
        if is_last(message):
            return found
    raise AssertionError(f"the stream ended after {found}")


def is_epoch(number: int) -> Callable[[Message], bool]:
    return lambda message: message.name == "epoch" and message.data["epoch"] == number


def is_event(kind: str, **data: Any) -> Callable[[Message], bool]:
    return lambda message: (
        message.name == "state"
        and message.data["kind"] == kind
        and message.data["data"].items() >= data.items()
    )


def lose(store: Store, claim: Claim) -> None:
    """The worker dies: its job is queued again, and due at once."""
    with store.writes.begin() as session:
        leases.end_failed(session, claim.lease, Reason.LOST_WORKER, "The worker is gone.")
        session.execute(update(Job).where(Job.id == claim.lease.job_id).values(run_after_at=0))


def claim_again(store: Store, claim: Claim) -> Claim:
    with store.writes.begin() as session:
        again = leases.claim(session, "train@there", "cpu", 60)
    assert again is not None
    assert again.lease.job_id == claim.lease.job_id
    return again


def live_through_a_crash(store: Store) -> str:
    """Epochs 0-6, a checkpoint after 3, a crash, 4-8, an unusable checkpoint, again from 2, and the end."""
    with store.writes.begin() as session:
        claim = make_claim(session, fit__epochs=12)
    write(store, claim, 0, 3, 3)
    write(store, claim, 4, 6)
    lose(store, claim)
    second = claim_again(store, claim)
    write(store, second, 4, 8, 8)
    lose(store, second)
    third = claim_again(store, second)
    with store.writes.begin() as session:
        leases.checkpoint_skipped(session, third.lease, "checkpoints/e9-f2.npz", "damaged")
        leases.resumed(session, third.lease, 2)
    write(store, third, 2, 11, 11)
    with store.writes.begin() as session:
        succeed(session, third.lease)
    return third.lease.job_id


def test_a_stream_tells_events_and_epochs_as_they_come_and_ends_after_done(
    client: httpx.Client, store: Store
) -> None:
    with store.writes.begin() as session:
        claim = make_claim(session)
    with open_stream(client, story(claim.lease.job_id)) as stream:
        assert stream.response.headers["Content-Type"] == "text/event-stream"
        assert stream.response.headers["Cache-Control"] == "no-store"
        assert stream.response.headers["X-Accel-Buffering"] == "no"
        begun = until(stream, is_event("state", state="running"))
        assert begun[-1].data["data"]["from_epoch"] == 0
        write(store, claim, 0, 1)
        live = until(stream, is_epoch(1))
        write(store, claim, 2, 4, 4)
        with store.writes.begin() as session:
            succeed(session, claim.lease)
        rest = list(stream)
    assert points(live) == [0, 1]
    assert points(rest) == [2, 3, 4]
    assert rest[-1].name == "done"
    assert rest[-1].data["state"] == "succeeded"
    assert rest[-1].data["reason"] == "finished"
    assert told_events(begun + live + rest) == events_in_sql(store, claim.lease.job_id)
    progress = [message for message in begun + live + rest if message.name == "progress"]
    assert all(message.id is None for message in progress)
    assert {*progress[0].data} == {"epoch", "fraction", "percent", "eta_seconds"}


def test_a_finished_job_is_told_in_the_order_in_which_it_happened(client: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
    with open_stream(client, story(job_id)) as stream:
        told = list(stream)
    assert [message.name for message in told] == ["state", "state", *["epoch"] * 5, "state", "done"]
    assert [message.id for message in told[:4]] == ["0-1", "0-2", "1-2", "2-2"]
    assert {message.data["epoch"]: message.data for message in told if message.name == "epoch"} == (
        points_in_sql(store, job_id)
    )


def test_from_wherever_it_is_cut_a_stream_goes_on_exactly_there(client: httpx.Client, store: Store) -> None:
    job_id = live_through_a_crash(store)
    with open_stream(client, story(job_id)) as stream:
        whole = [message for message in stream if message.id]
    assert points(whole) == [*range(12)]
    for place, message in enumerate(whole):
        with open_stream(client, story(job_id), message.id) as stream:
            # The end itself is told to whoever asks for what comes after it.
            assert [*stream] == (whole[place + 1 :] or whole[-1:])


@pytest.mark.parametrize("seed", range(3))
def test_a_reader_that_is_cut_off_again_and_again_has_what_sql_has(
    client: httpx.Client, store: Store, seed: int
) -> None:
    """While the job lives, crashes and is wound back; the reader keeps points by their number."""
    randomness = random.Random(seed)
    with store.writes.begin() as session:
        claim = make_claim(session, fit__epochs=30)
    job_id = claim.lease.job_id
    kept: dict[int, dict[str, Any]] = {}
    told: list[Message] = []

    def read() -> None:
        last_id = None
        while not (told and told[-1].name == "done"):
            with open_stream(client, story(job_id), last_id) as stream:
                for message in stream:
                    told.append(message)
                    last_id = stream.last_id
                    if randomness.random() < 0.3:
                        break

    reader = Thread(target=read)
    reader.start()
    at, covered = 0, 0
    while at < 30:
        last = min(29, at + randomness.randrange(6))
        takes_checkpoint = randomness.random() < 0.4
        write(store, claim, at, last, *([last] if takes_checkpoint else []))
        at, covered = last + 1, last + 1 if takes_checkpoint else covered
        wait_until(lambda: len(told) > 0)
        if at < 30 and randomness.random() < 0.3:
            with store.writes.begin() as session:
                # Not the worker's fault: retries do not run out.
                leases.end_failed(session, claim.lease, Reason.DEPLOY, "The worker is being replaced.")
                session.execute(update(Job).where(Job.id == job_id).values(run_after_at=0))
            claim, at = claim_again(store, claim), covered
    with store.writes.begin() as session:
        succeed(session, claim.lease)
    reader.join(60)
    assert not reader.is_alive()
    for message in told:
        back = message.data.get("data", {}).get("from_epoch") if message.name == "state" else None
        if back is not None:
            kept = {epoch: point for epoch, point in kept.items() if epoch < back}
        if message.name == "epoch":
            assert message.data["epoch"] not in kept
            kept[message.data["epoch"]] = message.data
    assert kept == points_in_sql(store, job_id)
    assert told_events(told) == events_in_sql(store, job_id)


def test_epochs_that_are_trained_again_are_told_again(client: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        claim = make_claim(session, fit__epochs=12)
    with open_stream(client, story(claim.lease.job_id)) as stream:
        write(store, claim, 0, 3, 3)
        write(store, claim, 4, 6)
        assert points(until(stream, is_epoch(6))) == [*range(7)]
        lose(store, claim)
        second = claim_again(store, claim)
        write(store, second, 4, 5)
        told = until(stream, is_epoch(5))
        assert [m.data["data"]["state"] for m in told if m.name == "state"] == ["queued", "running"]
        assert points(told) == [4, 5]
        with store.writes.begin() as session:
            leases.resumed(session, second.lease, 1)
        write(store, second, 1, 2)
        again = until(stream, is_epoch(2))
        assert [m.data["data"] for m in again if m.name == "state"] == [{"epoch": 1}]
        assert points(again) == [1, 2]


def test_a_long_story_is_told_whole(client: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        claim = make_claim(session, fit__epochs=1300)
        leases.write_epochs(session, claim.lease, make_epochs(0, 1299, checkpoint_at=[1299]), 60, None)
        succeed(session, claim.lease)
    with open_stream(client, story(claim.lease.job_id)) as stream:
        told = [*stream]
    assert points(told) == [*range(1300)]
    assert told[-2].data["data"]["state"] == "succeeded"


@pytest.mark.parametrize("garbage", ["x", "3", "-1-2", "1-2-3", "1-", "9" * 30 + "-1", "\u0663-1"])
def test_an_id_that_no_stream_gives_is_refused_with_one_that_would_do(
    client: httpx.Client, store: Store, garbage: str
) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session)
    for path in (story(job_id), "/v1/events") if garbage != "3" else (story(job_id),):
        headers = {b"Accept": b"text/event-stream", b"Last-Event-ID": garbage.encode()}
        answer = client.get(path, headers=headers)  # type: ignore[arg-type]
        assert answer.status_code == 400, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert "such as" in answer.json()["detail"]


def test_an_id_from_nowhere_hides_nothing(client: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        claim = make_claim(session)
    with open_stream(client, story(claim.lease.job_id), "900-900") as stream:
        write(store, claim, 0, 1)
        with store.writes.begin() as session:
            jobs.cancel(session, claim.lease.job_id)
        told = until(stream, is_event("cancel_requested"))
    assert points(told) == [0, 1]


def test_the_last_id_may_stand_in_the_address_and_the_header_is_newer(
    client: httpx.Client, store: Store
) -> None:
    with store.writes.begin() as session:
        job_id = make_success(session).lease.job_id
    with open_stream(client, f"{story(job_id)}?last_event_id=3-2") as stream:
        assert points([*stream]) == [3, 4]
    with open_stream(client, f"{story(job_id)}?last_event_id=0-2", "4-2") as stream:
        assert points([*stream]) == [4]


def test_a_silent_stream_gives_signs_of_life_and_asks_no_thread_to_wait(
    app: Flask, key: str, store: Store
) -> None:
    parts = app.extensions["trainshed"]
    parts.streams = Streams(parts.store, heartbeat_seconds=0.05)
    with store.writes.begin() as session:
        job_id = make_job(session)
    with running_server(app) as url, client_at(url, key) as client:
        for path in (story(job_id), "/v1/events"):
            with open_stream(client, path) as stream:
                beats = until(stream, lambda message: message.name == ":")
                assert beats[-1].data == "alive"
        wait_until(lambda: parts.streams.open == 0)


def test_streams_are_refused_as_everything_is_with_a_problem_document(
    client: httpx.Client, store: Store
) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session)
    accept = {"Accept": "text/event-stream"}
    for path in (story(job_id), "/v1/events"):
        answer = client.get(path, headers=accept | {"Authorization": "Bearer wrong"})
        assert answer.status_code == 401
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert client.post(path, headers=accept).status_code == 405
        head = client.head(path, headers=accept)
        assert head.status_code == 200
        assert head.headers["Content-Type"] == "text/event-stream"
    assert client.get(story("nobody"), headers=accept).status_code == 404
    answer = client.get("/v1/events", headers={"Accept": "application/json"})
    assert answer.status_code == 406
    assert "text/event-stream" in answer.json()["detail"]
    assert client.get("/v1/events?since=1", headers=accept).status_code == 422


def test_only_so_many_streams_are_open_at_once(app: Flask, key: str, store: Store) -> None:
    parts = app.extensions["trainshed"]
    parts.streams = Streams(parts.store, most=2)
    with store.writes.begin() as session:
        job_id = make_job(session)
    with running_server(app) as url, client_at(url, key) as client:
        with open_stream(client, story(job_id)) as first, open_stream(client, "/v1/events"):
            until(first, is_event("state"))
            wait_until(lambda: parts.streams.open == 2)
            answer = client.get(story(job_id), headers={"Accept": "text/event-stream"})
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
        wait_until(lambda: parts.streams.open == 0)
        with open_stream(client, story(job_id)) as again:
            until(again, is_event("state"))


def test_a_stream_of_a_job_that_is_deleted_ends(client: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        job_id = make_job(session)
    with open_stream(client, story(job_id)) as stream:
        until(stream, is_event("state"))
        with store.writes.begin() as session:
            jobs.cancel(session, job_id)
            jobs.delete(session, job_id)
        *_, last = stream
    assert (last.name, last.data["id"]) == ("deleted", job_id)


def test_the_list_tells_each_job_that_is_deleted(client: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        old, job_id = make_job(session), make_job(session)
        for one in (old, job_id):
            jobs.cancel(session, one)
        jobs.delete(session, old)
        session.execute(update(Deletion).values(deleted_at=1_000_000))
    with open_stream(client, "/v1/events", "1000000") as stream:
        told = until(stream, lambda m: m.name == "job")
        assert [(m.name, m.data["id"]) for m in told if m.name != ":"] == [("deleted", old), ("job", job_id)]
        with store.writes.begin() as session:
            jobs.delete(session, job_id)
        *_, last = until(stream, lambda m: m.name == "deleted")
    assert last.data["id"] == job_id
    assert int(last.id or 0) > 1_000_000


def test_events_are_answered_in_pages_as_json(client: httpx.Client, store: Store) -> None:
    job_id = live_through_a_crash(store)
    first = client.get(story(job_id), params={"limit": 3}).json()
    assert first["has_more"] is True
    rest = client.get(story(job_id), params={"after": first["next_after"]}).json()
    assert rest["has_more"] is False
    assert rest["next_after"] is None
    told = [(event["seq"], event["kind"], event["data"]) for event in first["data"] + rest["data"]]
    assert told == events_in_sql(store, job_id)
    assert {"epoch": 2} in [data for _, kind, data in told if kind == "resumed"]
    assert client.get(story("nobody")).status_code == 404
    assert client.get(story(job_id), params={"limit": 0}).status_code == 422


def test_the_list_tells_each_job_that_changes(client: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        old = make_job(session, owner="grace")
        jobs.cancel(session, old)
        session.execute(update(Job).where(Job.id == old).values(changed_at=1))
    with open_stream(client, "/v1/events") as stream:
        with store.writes.begin() as session:
            claim = make_claim(session, labels={"course": "ds3"})
        told = until(stream, lambda m: m.name == "job" and m.data["state"] == "running")
        assert {m.data["id"] for m in told if m.name == "job"} == {claim.lease.job_id}
        write(store, claim, 0, 2)
        newest = until(stream, lambda m: m.name == "job" and m.data["progress"]["epoch"] == 3)[-1]
    assert newest.data["owner"] == "ada"
    assert newest.data["labels"] == {"course": "ds3"}
    assert newest.data["metrics"]["loss"] == 1 / 3
    assert newest.data["progress"]["percent"] == pytest.approx(60)


def test_the_list_is_resumed_without_a_gap_in_pages(client: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        ids = [make_job(session) for _ in range(5)]
        for place, job_id in enumerate(ids):
            session.execute(update(Job).where(Job.id == job_id).values(changed_at=1_000_000 + place // 2))
    with open_stream(client, "/v1/events", "1010001") as stream:
        told = until(stream, lambda m: m.name == "job" and m.data["id"] == ids[4])
    # 10 s before the last id: the first two, which changed a millisecond earlier, are not told again.
    assert [m.data["id"] for m in told if m.name == "job"] == ids[2:]
    with open_stream(client, "/v1/events", "0") as stream:
        assert len(until(stream, lambda m: m.name == "job" and m.data["id"] == ids[4])) == 5


def test_a_list_stream_can_be_resumed_before_anything_changed(client: httpx.Client, store: Store) -> None:
    with store.writes.begin() as session:
        first = make_job(session)
    with open_stream(client, "/v1/events") as stream:
        until(stream, lambda m: m.name == "job" and m.data["id"] == first)
        last_id = stream.last_id
    assert last_id is not None
    with store.writes.begin() as session:
        second = make_job(session)
    with open_stream(client, "/v1/events", last_id) as stream:
        until(stream, lambda m: m.name == "job" and m.data["id"] == second)


def test_many_readers_of_one_job_all_get_the_same(client: httpx.Client, app: Flask, store: Store) -> None:
    with store.writes.begin() as session:
        claim = make_claim(session, fit__epochs=20)
    job_id = claim.lease.job_id
    told: dict[int, list[Message]] = {}

    def read(number: int) -> None:
        with open_stream(client, story(job_id)) as stream:
            told[number] = [message for message in stream if message.id]

    readers = [Thread(target=read, args=(number,)) for number in range(60)]
    for reader in readers:
        reader.start()
    wait_until(lambda: app.extensions["trainshed"].streams.open == 60)
    # More streams than there are threads for requests: everything else is answered nevertheless.
    assert client.get("/healthz").status_code == 200
    for epoch in range(20):
        write(store, claim, epoch, epoch, epoch)
    with store.writes.begin() as session:
        succeed(session, claim.lease)
    for reader in readers:
        reader.join(60)
    assert len(told) == 60
    for messages in told.values():
        assert {m.data["epoch"]: m.data for m in messages if m.name == "epoch"} == points_in_sql(
            store, job_id
        )
        assert points(messages) == [*range(20)]


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_streams_stay_open_while_the_database_is_away_and_go_on_when_it_is_back(
    app: Flask, key: str, store: Store, postgres: Postgres
) -> None:
    parts = app.extensions["trainshed"]
    parts.streams = Streams(parts.store, heartbeat_seconds=0.05)
    with store.writes.begin() as session:
        claim = make_claim(session)
    job_id = claim.lease.job_id
    with (
        running_server(app) as url,
        client_at(url, key) as client,
        open_stream(client, story(job_id)) as stream,
        open_stream(client, "/v1/events") as changes,
    ):
        until(stream, is_event("state", state="running"))
        until(changes, lambda message: message.name == "job")
        with away(postgres, str(store.engine.url.database)):
            answer = client.get(story(job_id), headers={"Accept": "text/event-stream"})
            assert answer.status_code == 503
            for _ in range(3):
                until(stream, lambda message: message.name == ":")
                until(changes, lambda message: message.name == ":")
        write(store, claim, 0, 0)
        until(stream, is_epoch(0))
        until(changes, lambda message: message.name == "job" and message.data["progress"]["epoch"] == 1)


@contextmanager
def away(postgres: Postgres, database: str) -> Iterator[None]:
    """The database ends all connections and takes no new ones."""

    def allow(answer: str) -> None:
        with psycopg.connect(host=str(postgres.socket_dir), user=USER, dbname="postgres") as connection:
            connection.autocommit = True
            name = sql.Identifier(database)
            connection.execute(
                sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(name, sql.SQL(answer))
            )
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database]
            )

    allow("false")
    try:
        yield
    finally:
        allow("true")


@pytest.fixture
def api_process(database_url: str, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`python -m api` as a process, and its address."""
    port = free_port()
    environment = os.environ | {
        "TRAINSHED_DATABASE_URL": database_url,
        "TRAINSHED_BROKER_URL": "redis://127.0.0.1:9/0",
        "TRAINSHED_ARTIFACT_ROOT": str(tmp_path / "artifacts"),
        "TRAINSHED_MLFLOW_URL": "http://127.0.0.1:9",
    }
    # The limit that many systems begin with, or less.
    command = ["sh", "-c", f"ulimit -Sn 256; exec {sys.executable} -m api --port {port}"]
    with (tmp_path / "api.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(answers, 60)
        yield process, url
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_the_server_may_have_more_connections_than_the_usual_limit(
    api_process: tuple[subprocess.Popen[bytes], str],
) -> None:
    soft, hard = resource.prlimit(api_process[0].pid, resource.RLIMIT_NOFILE)
    assert soft == min(MOST_DESCRIPTORS, hard if hard != resource.RLIM_INFINITY else MOST_DESCRIPTORS)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_signal_ends_streams_and_waiting_requests_and_the_process(
    api_process: tuple[subprocess.Popen[bytes], str], key: str, store: Store, number: signal.Signals
) -> None:
    process, url = api_process
    with store.writes.begin() as session:
        job_id = make_job(session)
    waited: list[int] = []

    def wait_for_the_job() -> None:
        with client_at(url, key) as other:
            etag = other.get(f"/v1/jobs/{job_id}").headers["ETag"]
            headers = {"If-None-Match": etag, "Prefer": "wait=60"}
            waiting.append(True)
            waited.append(other.get(f"/v1/jobs/{job_id}", headers=headers, timeout=60).status_code)

    waiting: list[bool] = []
    waiter = Thread(target=wait_for_the_job)
    waiter.start()
    with client_at(url, key) as client, open_stream(client, story(job_id)) as stream:
        until(stream, is_event("state"))
        wait_until(lambda: bool(waiting))
        process.send_signal(number)
        assert [message.name for message in stream if message.name == "done"] == []
    waiter.join(30)
    assert waited == [304]
    assert process.wait(30) == 0
