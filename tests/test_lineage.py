"""Jobs made from jobs, and what people change of a job later: SQL on both databases, and the API."""

import errno
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from flask import Flask
from sqlalchemy import Engine, event, func, select, update

from services import datasets, keys, leases, lineage, results
from services.artifacts import job_folder
from services.leases import Claim
from services.models import Checkpoint, Epoch, Event, Job, MlflowRemoval
from services.results import Urls
from services.settings import Settings
from services.spec import MAX_EPOCHS
from services.states import JobState, Reason
from services.store import Store
from tests.builders import VERSIONS, make_claim, make_dataset, make_epochs, make_job, make_success
from tests.conftest import client_of, wait_for_a_lock
from tests.test_api_contract import assert_problem

URLS = Urls(mlflow="http://mlflow.example")
STOPPING = {"monitor": "accuracy", "patience": 1, "start_from_epoch": 2}


class Shop:
    """Jobs that have ended, with the files of their checkpoints, and a person who makes others of them."""

    def __init__(self, store: Store, settings: Settings, http: httpx.Client) -> None:
        self.store = store
        self.root = settings.artifact_root
        self.http = http

    def ended(self, reason: Reason = Reason.FINISHED, epochs: int = 5, **changes: Any) -> str:
        """A job that ended after so many epochs, the last of them covered by a checkpoint on disk."""
        with self.store.writes.begin() as session:
            claim = make_claim(session, **changes)
            if epochs:
                written = make_epochs(0, epochs - 1, checkpoint_at=[epochs - 1])
                best = {"epoch": 0, "metric": "val_loss", "value": 1.1}
                leases.write_epochs(session, claim.lease, written, 60, best)
            self._end(session, claim, reason)
        if epochs:
            self.file(claim.lease.job_id, epochs).parent.mkdir(parents=True)
            self.file(claim.lease.job_id, epochs).write_bytes(b"weights")
        return claim.lease.job_id

    def _end(self, session: Any, claim: Claim, reason: Reason) -> None:
        if reason in {Reason.FINISHED, Reason.STOPPED_EARLY}:
            best = {"epoch": 4, "metric": "val_loss", "value": 0.22}
            leases.succeed(
                session,
                claim.lease,
                reason=reason,
                detail="It ended.",
                best=best,
                model_sha256="5" * 64,
                timings={},
                engine="graph",
            )
        elif reason is Reason.USER_CANCELLED:
            leases.end_cancelled(session, claim.lease)
        else:
            leases.end_failed(session, claim.lease, reason, "It failed.")

    def file(self, job_id: str, epochs: int) -> Path:
        return job_folder(self.root, job_id) / f"checkpoints/e{epochs}-f1.npz"

    def post(self, job_id: str, what: str, body: Any = None, **headers: str) -> httpx.Response:
        return self.http.post(f"/v1/jobs/{job_id}/{what}", json=body, headers=headers)

    def made(self, job_id: str, what: str, body: Any = None) -> dict[str, Any]:
        answer = self.post(job_id, what, body)
        assert answer.status_code == 201, answer.text
        assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"
        job: dict[str, Any] = answer.json()
        return job

    def epochs(self, job_id: str) -> list[tuple[Any, ...]]:
        with self.store.reads() as session:
            return [
                (row.epoch, row.metrics, row.learning_rate, row.seconds, row.examples, row.ended_at)
                for row in results.epochs(session, job_id)
            ]

    def claim(self) -> Claim:
        with self.store.writes.begin() as session:
            claim = leases.claim(session, "train@here", "cpu", 60)
        assert claim is not None
        return claim

    def number_of_jobs(self) -> int:
        with self.store.reads() as session:
            return session.scalar(select(func.count()).select_from(Job)) or 0


@pytest.fixture
def shop(store: Store, settings: Settings, http: httpx.Client) -> Shop:
    return Shop(store, settings, http)


def test_a_continued_job_begins_with_its_parents_history_and_checkpoint(shop: Shop) -> None:
    parent = shop.ended(labels={"course": "ds3"})
    child = shop.made(parent, "continue", {"epochs": 7})
    assert (child["state"], child["owner"], child["labels"]) == ("queued", "ada", {"course": "ds3"})
    assert child["parent"] == {"job": parent, "relation": "continue"}
    assert child["progress"] == {
        "epoch": 5,
        "of": 12,
        "inherited": 5,
        "percent": 500 / 12,
        "eta_seconds": None,
    }
    assert child["best"] == {"epoch": 4, "metric": "val_loss", "value": 0.22}
    assert child["metrics"]["loss"] == 0.2
    assert child["spec"]["fit"]["epochs"] == 12
    assert child["timings"] | {"created_at": None} == dict.fromkeys(child["timings"]) | {"startup": {}}
    assert shop.epochs(child["id"]) == shop.epochs(parent)
    history = shop.http.get(f"/v1/jobs/{child['id']}/history").json()
    assert (history["epoch"], history["provisional_from"]) == ([0, 1, 2, 3, 4], None)
    claim = shop.claim()
    [checkpoint] = claim.checkpoints
    file = job_folder(shop.root, child["id"]) / checkpoint.path
    assert (checkpoint.epoch, checkpoint.sha256, claim.best) == (5, f"{5:064x}", child["best"])
    assert file.samefile(shop.file(parent, 5))
    assert file.name == "e4-f0.npz"


def test_epochs_of_the_childs_own_are_counted_apart_from_the_inherited(shop: Shop) -> None:
    child = shop.made(shop.ended(), "continue", {"epochs": 3})["id"]
    claim = shop.claim()
    running = shop.http.get(f"/v1/jobs/{child}").json()
    assert running["progress"]["eta_seconds"] == pytest.approx(3 * (0.1 + 2 / 7))
    assert running["timings"]["train_seconds"] is None
    with shop.store.writes.begin() as session:
        leases.write_epochs(session, claim.lease, make_epochs(5, 6), 60, None)
    job = shop.http.get(f"/v1/jobs/{child}").json()
    own = [0.1 + 5 / 7, 0.1 + 6 / 7]
    # The lower middle one of its own epochs: the other may hold a compilation.
    assert job["progress"]["eta_seconds"] == pytest.approx(own[0])
    assert job["timings"]["train_seconds"] == pytest.approx(sum(own))
    assert job["timings"]["first_epoch_seconds"] >= 0
    [attempt] = shop.http.get(f"/v1/jobs/{child}/attempts").json()["data"]
    assert (attempt["first_epoch"], attempt["epochs_kept"]) == (5, 2)
    history = shop.http.get(f"/v1/jobs/{child}/history").json()
    assert (history["epoch"], history["provisional_from"]) == (list(range(7)), 5)
    times = [row[-1] for row in shop.epochs(child)]
    assert times == sorted(set(times))


def test_a_child_goes_on_after_its_parent_was_deleted(shop: Shop) -> None:
    parent = shop.ended()
    before = shop.epochs(parent)
    child = shop.made(parent, "continue", {"epochs": 1})
    assert shop.http.delete(f"/v1/jobs/{parent}").status_code == 204
    assert shop.http.get(f"/v1/jobs/{child['id']}").json()["parent"]["job"] == parent
    assert shop.epochs(child["id"]) == before
    [checkpoint] = shop.claim().checkpoints
    assert (job_folder(shop.root, child["id"]) / checkpoint.path).read_bytes() == b"weights"


def test_the_childs_data_is_its_parents_version_however_new_others_are(shop: Shop) -> None:
    parent = shop.ended()
    with shop.store.reads() as session:
        version = session.get_one(Job, parent).dataset_version
    child = shop.made(parent, "continue", {"epochs": 1})
    assert child["dataset"] == {"name": "iris", "version": version}


@pytest.mark.parametrize("state", ["queued", "running"])
@pytest.mark.parametrize(("what", "body"), [("continue", {"epochs": 1}), ("retry", None)])
def test_a_job_that_has_not_ended_is_neither_continued_nor_tried_again(
    shop: Shop, state: str, what: str, body: Any
) -> None:
    with shop.store.writes.begin() as session:
        job = make_job(session) if state == "queued" else make_claim(session).lease.job_id
    detail = assert_problem(shop.post(job, what, body), 409)["detail"]
    assert f"is {state}" in detail
    assert "cancelled" in detail


@pytest.mark.parametrize("reason", [Reason.DIVERGED, Reason.BAD_SPEC, Reason.BAD_DATA])
@pytest.mark.parametrize(("what", "body"), [("continue", {"epochs": 1}), ("retry", None)])
def test_what_would_end_the_same_way_is_sent_to_clone(
    shop: Shop, reason: Reason, what: str, body: Any
) -> None:
    detail = assert_problem(shop.post(shop.ended(reason), what, body), 409)["detail"]
    assert "Clone it" in detail
    assert ('"compile.optimizer.learning_rate": 0.001' in detail) == (reason is Reason.DIVERGED)


def test_a_job_without_a_checkpoint_is_not_continued(shop: Shop) -> None:
    early = shop.ended(Reason.USER_CANCELLED, epochs=0)
    assert "no checkpoint" in assert_problem(shop.post(early, "continue", {"epochs": 1}), 409)["detail"]
    emptied = shop.ended()
    shop.file(emptied, 5).unlink()
    assert "no checkpoint" in assert_problem(shop.post(emptied, "continue", {"epochs": 1}), 409)["detail"]
    assert shop.number_of_jobs() == 2


def test_the_newest_checkpoint_whose_file_is_there_counts(shop: Shop) -> None:
    parent = shop.ended(Reason.USER_CANCELLED)
    shop.file(parent, 3).write_bytes(b"older")
    with shop.store.writes.begin() as session:
        older = {"epoch": 3, "fence": 1, "path": "checkpoints/e3-f1.npz", "bytes": 5, "sha256": "3" * 64}
        session.add(Checkpoint(job_id=parent, **older))
    shop.file(parent, 5).unlink()
    child = shop.made(parent, "continue", {"epochs": 4})
    assert (child["progress"]["epoch"], child["progress"]["of"]) == (3, 7)
    assert child["best"] == {"epoch": 0, "metric": "val_loss", "value": 1.1}
    assert shop.epochs(child["id"]) == shop.epochs(parent)[:3]


@pytest.mark.parametrize(
    ("body", "pointer", "expected"),
    [
        ({"epochs": 0}, "/epochs", None),
        ({"epochs": 1.5}, "/epochs", None),
        ({"epochs": True}, "/epochs", None),
        ({}, "/epochs", None),
        ({"epochs": 1, "epoch": 2}, "/epoch", "epochs"),
        ({"epochs": MAX_EPOCHS - 4}, "/epochs", "at most 9,995 more"),
        ({"epochs": 1, "early_stopping": "maybe"}, "/early_stopping", None),
        ({"epochs": 1, "early_stopping": "reset"}, "/early_stopping", "nothing"),
    ],
)
def test_a_wrong_continuation_is_refused_at_its_place(
    shop: Shop, body: Any, pointer: str, expected: str | None
) -> None:
    (item,) = assert_problem(shop.post(shop.ended(), "continue", body), 422)["errors"]
    assert item["pointer"] == pointer
    assert (expected or "") in (item["expected"] or "")
    assert shop.number_of_jobs() == 1


def test_what_early_stopping_ended_is_continued_only_when_it_is_dealt_with(shop: Shop) -> None:
    parent = shop.ended(Reason.STOPPED_EARLY, fit__early_stopping=STOPPING, fit__epochs=50)
    (item,) = assert_problem(shop.post(parent, "continue", {"epochs": 3}), 422)["errors"]
    assert (item["pointer"], "reset" in item["expected"], "remove" in item["expected"]) == (
        "/early_stopping",
        True,
        True,
    )
    reset = shop.made(parent, "continue", {"epochs": 3, "early_stopping": "reset"})
    rule = reset["spec"]["fit"]["early_stopping"]
    assert (rule["start_from_epoch"], rule["patience"], reset["spec"]["fit"]["epochs"]) == (5, 1, 8)
    removed = shop.made(parent, "continue", {"epochs": 3, "early_stopping": "remove"})
    assert removed["spec"]["fit"]["early_stopping"] is None
    # Nothing but the loss is watched now: the best epoch is the best by that.
    assert removed["best"] == {"epoch": 4, "metric": "val_loss", "value": pytest.approx(0.22)}


def test_the_best_epoch_is_found_anew_where_another_metric_is_watched(shop: Shop) -> None:
    parent = shop.ended(Reason.STOPPED_EARLY, fit__early_stopping={**STOPPING, "mode": "min"})
    removed = shop.made(parent, "continue", {"epochs": 3, "early_stopping": "remove"})
    assert removed["best"] == {"epoch": 4, "metric": "val_loss", "value": 0.2 * 1.1}


def test_a_retry_goes_on_from_the_newest_checkpoint_with_the_same_spec(shop: Shop) -> None:
    parent = shop.ended(Reason.OOM_GPU, epochs=2)
    for body in (None, {}):
        child = shop.made(parent, "retry", body)
        assert child["parent"] == {"job": parent, "relation": "retry"}
        assert (child["progress"]["epoch"], child["progress"]["of"]) == (2, 5)
        assert child["spec"] == shop.http.get(f"/v1/jobs/{parent}").json()["spec"]
        assert shop.epochs(child["id"]) == shop.epochs(parent)


def test_a_retry_without_a_checkpoint_begins_from_scratch(shop: Shop) -> None:
    child = shop.made(shop.ended(Reason.USER_CANCELLED, epochs=0), "retry")
    assert (child["progress"]["epoch"], child["progress"]["inherited"], child["best"]) == (0, 0, None)
    assert not job_folder(shop.root, child["id"]).exists()


def test_a_success_is_not_tried_again(shop: Shop) -> None:
    detail = assert_problem(shop.post(shop.ended(), "retry"), 409)["detail"]
    assert "Continue it" in detail
    assert "clone it" in detail


def test_a_job_whose_data_never_came_may_be_tried_again(shop: Shop) -> None:
    with shop.store.writes.begin() as session:
        parent = make_job(session, dataset="wine", with_data=False, model__layers__1__units=3)
        failed = {"state": JobState.FAILED, "reason": Reason.BAD_DATA}
        session.execute(update(Job).where(Job.id == parent).values(**failed))
    assert shop.made(parent, "retry")["dataset"] == {"name": "wine", "version": None}


def test_a_retry_that_says_something_is_refused(shop: Shop) -> None:
    (item,) = assert_problem(shop.post(shop.ended(Reason.OOM_GPU), "retry", {"epochs": 3}), 422)["errors"]
    assert item["pointer"] == "/epochs"


def test_a_clone_is_the_spec_with_changes_from_scratch(shop: Shop) -> None:
    with shop.store.writes.begin() as session:
        parent = make_job(session)
    changes = {"fit.epochs": 9, "model.layers.0.units": 12, "name": "a=b", "labels.course": "ds3"}
    child = shop.made(parent, "clone", {"set": changes})
    assert child["parent"] == {"job": parent, "relation": "clone"}
    assert (child["name"], child["labels"], child["seed"]) == ("a=b", {"course": "ds3"}, 42)
    assert (child["spec"]["fit"]["epochs"], child["spec"]["model"]["layers"][0]["units"]) == (9, 12)
    assert (child["progress"]["epoch"], child["progress"]["inherited"]) == (0, 0)
    same = shop.made(parent, "clone", {})
    assert same["spec"] == shop.http.get(f"/v1/jobs/{parent}").json()["spec"]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"fit.epochs": 0}, "/fit/epochs"),
        ({"fit.epochs": "5"}, "/fit/epochs"),
        ({"model.layers.9.units": 3}, "/model/layers/9/units"),
        ({"": 3}, "/"),
        ({"dataset": "irs"}, "/dataset"),
        ({"model.layers.1.units": 7}, "/model/layers/1/units"),
    ],
)
def test_a_clone_is_checked_as_any_spec_is(shop: Shop, changes: dict[str, Any], pointer: str) -> None:
    parent = shop.ended()
    errors = assert_problem(shop.post(parent, "clone", {"set": changes}), 422)["errors"]
    assert pointer in {item["pointer"] for item in errors}
    assert shop.number_of_jobs() == 1


@pytest.mark.parametrize(
    ("what", "body"), [("continue", {"epochs": 2}), ("retry", {}), ("clone", {"set": {}})]
)
def test_a_repeated_request_answers_the_same_job(shop: Shop, what: str, body: Any) -> None:
    parent, other = shop.ended(Reason.USER_CANCELLED), shop.ended(Reason.USER_CANCELLED)
    key = {"Idempotency-Key": "again"}
    first = shop.post(parent, what, body, **key)
    second = shop.post(parent, what, body, **key)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    assert shop.number_of_jobs() == 3
    assert_problem(shop.post(other, what, body, **key), 422)
    folders = {path.name for path in (shop.root / "jobs").iterdir()}
    assert folders <= {parent, other, first.json()["id"]}


def test_the_child_belongs_to_who_asked(shop: Shop, app: Flask) -> None:
    parent = shop.ended()
    with shop.store.writes.begin() as session:
        bobs = keys.make_key(session, "bob")
    with client_of(app, bobs) as bob:
        child = bob.post(f"/v1/jobs/{parent}/continue", json={"epochs": 1}).json()
    assert child["owner"] == "bob"


def test_nothing_is_left_of_a_child_whose_parent_was_deleted_meanwhile(shop: Shop) -> None:
    parent = shop.ended()
    with shop.store.reads() as session:
        child = lineage.continue_(session, shop.root, parent, 1, None)
    shop.http.delete(f"/v1/jobs/{parent}")
    with pytest.raises(lineage.NotFound):
        lineage.hand_down(shop.root, child)
    with pytest.raises(lineage.NotFound), shop.store.writes.begin() as session:
        lineage.submit(session, "somebody", child, None)
    assert list((shop.root / "jobs").iterdir()) == []


def test_nothing_is_left_of_a_child_whose_checkpoint_could_not_be_copied(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = shop.ended()

    def fail(_source: Path, target: Path) -> None:
        target.write_bytes(b"a par")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lineage.os, "link", fail)
    monkeypatch.setattr(lineage.shutil, "copyfile", fail)
    assert shop.post(parent, "continue", {"epochs": 1}).status_code >= 500
    assert [path.name for path in (shop.root / "jobs").iterdir()] == [parent]
    assert shop.number_of_jobs() == 1


def test_a_clone_of_a_job_that_waits_for_data_meets_the_data(shop: Shop, key: str) -> None:
    """Both take the dataset's row and the parent's, in opposite order."""
    with shop.store.writes.begin() as session:
        parent = make_job(session, dataset="wine", with_data=False, model__layers__1__units=3)
        owner = keys.caller(session, key).id
        child = lineage.clone(session, parent, {})

    def submit() -> None:
        with shop.store.writes.begin() as session:
            lineage.submit(session, owner, child, None)

    clone = Thread(target=submit)
    with shop.store.writes.begin() as session:
        datasets.want(session, "wine")
        clone.start()
        wait_for_a_lock(shop.store, clone)
        make_dataset(session, "wine")
    clone.join(10)
    with shop.store.reads() as session:
        versions = session.scalars(select(Job.dataset_version)).all()
    assert versions == [VERSIONS["wine"]] * 2


def test_inherited_epochs_become_the_childs_own_if_it_has_to_train_them(shop: Shop) -> None:
    child = shop.made(shop.ended(), "continue", {"epochs": 2})["id"]
    claim = shop.claim()
    with shop.store.writes.begin() as session:
        leases.checkpoint_skipped(session, claim.lease, "checkpoints/e4-f0.npz", "it is damaged")
        leases.resumed(session, claim.lease, 0)
        leases.write_epochs(session, claim.lease, make_epochs(0, 1), 60, None)
    progress = shop.http.get(f"/v1/jobs/{child}").json()["progress"]
    assert (progress["epoch"], progress["of"], progress["inherited"]) == (2, 7, 0)
    with shop.store.reads() as session:
        fences = session.scalars(select(Epoch.fence).where(Epoch.job_id == child)).all()
        kinds = session.scalars(select(Event.kind).where(Event.job_id == child).order_by(Event.seq)).all()
    assert set(fences) == {claim.lease.fence}
    assert "checkpoint_skipped" in kinds


def test_children_are_found_by_their_parent(shop: Shop) -> None:
    parent = shop.ended(Reason.USER_CANCELLED)
    made = {what: shop.made(parent, what, body)["id"] for what, body in BODIES.items()}

    def found(**wanted: str) -> set[str]:
        return {job["id"] for job in shop.http.get("/v1/jobs", params=wanted).json()["data"]}

    assert found(parent=parent) == set(made.values())
    assert found(parent=parent, relation="retry") == {made["retry"]}
    assert found(relation="clone") == {made["clone"]}
    assert found(parent=made["clone"]) == set()
    assert_problem(shop.http.get("/v1/jobs", params={"relation": "cousin"}), 422)


BODIES: dict[str, Any] = {"continue": {"epochs": 1}, "retry": None, "clone": {}}


@pytest.mark.parametrize("what", BODIES)
def test_a_parent_that_does_not_exist_is_said(shop: Shop, what: str) -> None:
    assert_problem(shop.post("nobody", what, BODIES[what]), 404)


# What people change of a job


@pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
def test_labels_note_and_priority_change_in_any_state(shop: Shop, state: str) -> None:
    with shop.store.writes.begin() as session:
        kept = {"labels": {"course": "ds3", "old": "1"}}
        if state == "queued":
            job_id = make_job(session, **kept)
        else:
            make = make_claim if state == "running" else make_success
            job_id = make(session, **kept).lease.job_id
        session.execute(update(Job).where(Job.id == job_id).values(mlflow_synced_at=1))
        revision = results.revision(session, job_id)
    path = f"/v1/jobs/{job_id}"
    body = {
        "labels": {"new": "2", "old": None, "never": None},
        "note": "a look\nat \x01 this",
        "priority": -7,
    }
    job = shop.http.patch(path, json=body).json()
    assert (job["labels"], job["note"], job["priority"]) == (
        {"course": "ds3", "new": "2"},
        "a look\nat \x01 this",
        -7,
    )
    assert (job["state"], job["spec"]["labels"]) == (state, kept["labels"])
    assert job["mlflow"]["synced"] is False
    assert shop.http.patch(path, json={"note": None}).json()["note"] is None
    assert shop.http.patch(path, json={}).json()["priority"] == -7
    assert shop.http.patch(path, json={"priority": -7, "labels": {"new": "2"}}).status_code == 200
    with shop.store.reads() as session:
        events = session.scalars(select(Event).where(Event.job_id == job_id, Event.kind == "patched")).all()
        assert results.revision(session, job_id) == revision + 2
    assert [sorted(event.data) for event in events] == [["labels", "note", "priority"], ["note"]]
    assert [job["id"] for job in shop.http.get("/v1/jobs?label=new:2").json()["data"]] == [job_id]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "other"}, "/name"),
        ({"labels": None}, "/labels"),
        ({"labels": {"a:b": "1"}}, "/labels/a:b"),
        ({"labels": {"": "1"}}, "/labels/"),
        ({"labels": {"a": 1}}, "/labels/a"),
        ({"labels": {"a": "x" * 257}}, "/labels/a"),
        ({"labels": {str(number): "" for number in range(32)}}, "/labels"),
        ({"note": "x" * 10_001}, "/note"),
        ({"note": 3}, "/note"),
        ({"priority": 101}, "/priority"),
        ({"priority": -101}, "/priority"),
        ({"priority": None}, "/priority"),
        ({"priority": 1.5}, "/priority"),
    ],
)
def test_a_change_that_cannot_be_made_is_refused_at_its_place(shop: Shop, body: Any, pointer: str) -> None:
    with shop.store.writes.begin() as session:
        job_id = make_job(session, labels={"course": "ds3"})
        revision = results.revision(session, job_id)
    (item,) = assert_problem(shop.http.patch(f"/v1/jobs/{job_id}", json=body), 422)["errors"]
    assert item["pointer"] == pointer
    with shop.store.reads() as session:
        assert results.revision(session, job_id) == revision


# Deleting


def test_a_delete_may_leave_the_files(shop: Shop) -> None:
    kept, gone = shop.ended(), shop.ended()
    assert shop.http.delete(f"/v1/jobs/{kept}?artifacts=false").status_code == 204
    assert shop.http.delete(f"/v1/jobs/{gone}").status_code == 204
    assert shop.file(kept, 5).exists()
    assert not job_folder(shop.root, gone).exists()


def test_a_delete_may_ask_for_the_end_of_the_run_in_mlflow(shop: Shop) -> None:
    there, gone = shop.ended(), shop.ended()
    shop.http.delete(f"/v1/jobs/{there}")
    assert shop.http.delete(f"/v1/jobs/{gone}?mlflow=true").status_code == 204
    with shop.store.reads() as session:
        assert session.scalars(select(MlflowRemoval.job_id)).all() == [gone]
        running = make_claim_id(shop)
    assert_problem(shop.http.delete(f"/v1/jobs/{running}?mlflow=true"), 409)
    with shop.store.reads() as session:
        assert session.scalars(select(MlflowRemoval.job_id)).all() == [gone]


def make_claim_id(shop: Shop) -> str:
    with shop.store.writes.begin() as session:
        return make_claim(session).lease.job_id


# Reading many


def test_a_page_of_many_jobs_takes_no_more_queries_than_one_of_few(shop: Shop) -> None:
    def queries(limit: int) -> int:
        with counted(shop.store.engine) as count, shop.store.reads() as session:
            results.page(session, results.Filter(), limit, None, URLS)
        return len(count)

    for _ in range(3):
        shop.ended()
    assert queries(3) == queries(1)


class counted:  # noqa: N801 - a context manager, written like one
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.said: list[str] = []

    def _hear(self, _connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        self.said.append(statement)

    def __enter__(self) -> list[str]:
        event.listen(self._engine, "before_cursor_execute", self._hear)
        return self.said

    def __exit__(self, *_error: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._hear)
