"""The client, synchronous and asynchronous alike, against a small HTTP server with mishaps."""

import asyncio
import copy
import gzip
import importlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

import trainshed
from tests.both import Blocking
from tests.stub import (
    EVENTS,
    FORETOLD,
    HISTORY,
    NOW,
    PREDICTED,
    PREDICTION,
    READ,
    REJECTED,
    ROWS_WRONG,
    SAID,
    SPEC,
    STREAM,
    STREAM_END,
    SUCCESS,
    UPLOAD,
    VERSION,
    Service,
    make_id,
    make_job,
    serving,
    write_spec,
)
from tools import sync_client
from trainshed.errors import (
    AmbiguousJob,
    Conflict,
    DataRejected,
    FileUnreadable,
    KerasMissing,
    NoSuchFile,
    NoSuchJob,
    NotFound,
    NotWritten,
    PredictionFailed,
    Refused,
    ServerFailed,
    StillRunning,
    TooShort,
    Unauthorized,
    Unreachable,
)
from trainshed.ports import free_port

Connect = Callable[..., Any]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Service]:
    with serving(monkeypatch, tmp_path) as held:
        yield held


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest, service: Service) -> Iterator[Connect]:
    """Makes clients of one kind, which are used in the same way."""
    made: list[Any] = []
    with asyncio.Runner() as runner:

        def make(*args: Any, **options: Any) -> Any:
            is_sync = request.param == "sync"
            kind = trainshed.Client if is_sync else trainshed.AsyncClient
            client = kind(*args, **{"patience": 5, **options})
            made.append(client if is_sync else Blocking(client, runner))
            return made[-1]

        yield make
        for client in made:
            client.close()


@pytest.fixture
def client(connect: Connect) -> Any:
    return connect()


def table() -> pd.DataFrame:
    return pd.DataFrame({"rooms": [3, 4], "place": ["sea", None], "price": [1.5, 2.5]}, index=[7, 8])


def parts(service: Service) -> dict[str, tuple[str | None, bytes]]:
    """File name and content of each part of the last multipart body, by its field."""
    request = next(request for request in reversed(service.requests) if request.body[:2] == b"--")
    boundary = request.headers["content-type"].partition("boundary=")[2].encode()
    found = {}
    for part in request.body.split(b"--" + boundary)[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        words = head.decode().split('"')
        found[words[1]] = (words[3] if "filename" in head.decode() else None, content.removesuffix(b"\r\n"))
    return found


def test_a_file_is_submitted_as_it_is_with_overrides_beside_it(
    client: Any, service: Service, tmp_path: Path
) -> None:
    text = "# my notes\nname: tiny\n"
    job = client.submit(
        write_spec(tmp_path, text), overrides={"fit.epochs": 5, "name": "a=b", "fit.early_stopping": None}
    )

    sent = service.requests[-1]
    assert (job.id, job.state, job.has_ended) == (make_id(1), "queued", False)
    assert sent.body == text.encode()
    assert sent.headers["content-type"] == "application/yaml"
    assert sent.query == [("set", "fit.epochs=5"), ("set", 'name="a=b"'), ("set", "fit.early_stopping=null")]


def test_mappings_and_texts_are_submitted_too(client: Any, service: Service) -> None:
    client.submit({"name": "tiny"})
    client.submit('{"name": "tiny"}')
    client.submit("name: tiny")

    kinds = [request.headers["content-type"] for request in service.requests]
    assert kinds == ["application/json", "application/json", "application/yaml"]


def test_a_line_that_names_a_file_is_that_file(client: Any, service: Service, tmp_path: Path) -> None:
    write_spec(tmp_path)
    client.submit("spec.yaml")
    assert service.requests[-1].body == SPEC.encode()

    client.submit('{"name": "' + "long" * 2000 + '"}')
    for name in ("no-such.yaml", "no-such.json", Path("no-such")):
        with pytest.raises(NoSuchFile, match="There is no file no-such"):
            client.submit(name)


@pytest.mark.parametrize("mishaps", [[503, 502, 504], [None]])
def test_a_submit_is_repeated_with_its_key_and_makes_one_job(
    client: Any, service: Service, mishaps: list[int | None]
) -> None:
    service.mishaps = list(mishaps)
    client.submit(SPEC)

    assert len(service.requests) == len(mishaps) + 1
    assert len({request.headers["idempotency-key"] for request in service.requests}) == 1
    assert len(service.jobs) == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda client, job: job.evaluate("test", reason="final"),
        lambda client, job: job.predict([{"x": 1}]),
        lambda client, job: job.continue_(5),
        lambda client, job: job.retry(),
        lambda client, job: job.clone({"fit.epochs": 5}),
        lambda client, job: client.datasets.add(table(), name="houses", task="regression", target="price"),
    ],
    ids=["evaluate", "predict", "continue", "retry", "clone", "add"],
)
def test_every_post_is_repeated_with_its_key_and_body(
    client: Any, service: Service, ask: Callable[[Any, Any], object]
) -> None:
    job = client.submit(SPEC)
    service.requests.clear()
    service.mishaps = [None, 503]
    ask(client, job)

    sent = [request for request in service.requests if request.method == "POST"]
    assert len(sent) == 3
    assert len({request.headers["idempotency-key"] for request in sent}) == 1
    assert len({request.body for request in sent}) == 1
    assert sent[0].body


def test_an_absent_server_is_reported_at_once(connect: Connect) -> None:
    began = time.monotonic()
    with pytest.raises(Unreachable, match="trainshed up"):
        connect(f"http://127.0.0.1:{free_port()}").queue()
    assert time.monotonic() - began < 3


def test_a_server_that_stays_away_is_given_up_with_its_own_words(connect: Connect, service: Service) -> None:
    service.mishaps = [503] * 100
    with pytest.raises(ServerFailed, match="503"):
        connect(patience=0.5).queue()


def test_all_problems_of_a_spec_are_told_at_once(client: Any) -> None:
    with pytest.raises(Refused) as refused:
        client.submit("fit: {epochs: 0}")

    assert [item["pointer"] for item in refused.value.problems] == ["/fit/epochs", "/model/layer"]
    assert str(refused.value).splitlines() == [
        "The request has 2 problems; nothing was queued.",
        "  /fit/epochs: Must be at least 1. (got 0; expected 1 or more)",
        "  /model/layer: Unknown key. (expected layers)",
    ]


def test_refusals_have_classes(client: Any, connect: Connect, service: Service) -> None:
    with pytest.raises(NotFound):
        client.job(make_id(9))
    with pytest.raises(Unauthorized, match="TRAINSHED_HOME"):
        connect(key="wrong").queue()
    job = client.submit(SPEC)
    service.jobs[0]["state"] = "succeeded"
    with pytest.raises(Conflict, match="succeeded already"):
        job.cancel()


def test_watch_gives_each_change_and_lets_the_server_wait(client: Any, service: Service) -> None:
    job = client.submit(SPEC)
    service.story = copy.deepcopy(SUCCESS)
    service.requests.clear()

    seen = [(snapshot["state"], snapshot["progress"]["epoch"]) for snapshot in job.watch(min_interval=0)]

    assert seen == [("queued", 0), ("running", 0), ("running", 1), ("running", 2), ("succeeded", 3)]
    assert job.has_ended
    first, *others = service.requests
    assert "prefer" not in first.headers
    assert {request.headers["prefer"] for request in others} == {"wait=30"}


def test_watch_outlives_a_restart_of_the_server(client: Any, service: Service) -> None:
    job = client.submit(SPEC)
    service.story = copy.deepcopy(SUCCESS)
    service.mishaps = [0, None, 503, 0]

    assert [snapshot["state"] for snapshot in job.watch(min_interval=0)][-1] == "succeeded"


def test_wait_ends_with_the_job_or_with_its_time(client: Any, service: Service) -> None:
    job = client.submit(SPEC)
    with pytest.raises(StillRunning):
        job.wait(timeout=0.2)
    service.story = copy.deepcopy(SUCCESS)
    assert job.wait(timeout=10).state == "succeeded"


def test_jobs_are_read_page_by_page_and_only_as_far_as_needed(client: Any, service: Service) -> None:
    service.jobs = [make_job(id=make_id(number)) for number in range(250)]

    assert [job.id for job in client.jobs(state="queued", label="course:ds3")] == [
        job["id"] for job in service.jobs
    ]
    assert [dict(request.query).get("after") for request in service.requests] == [None, "100", "200"]
    assert ("label", "course:ds3") in service.requests[0].query

    service.requests.clear()
    assert len(list(client.jobs(limit=130))) == 130
    assert [dict(request.query)["limit"] for request in service.requests] == ["100", "30"]


def test_ids_may_be_abbreviated_at_either_end(client: Any, service: Service) -> None:
    service.jobs = [make_job(id=make_id(number)) for number in (0xABC2, 0xABC1, 7)]

    assert client.find("last").id == make_id(0xABC2)
    assert client.find(make_id(7)).id == make_id(7)
    assert client.find("0190ABC1").id == make_id(0xABC1)
    assert client.find("0000abc2").id == make_id(0xABC2)
    with pytest.raises(AmbiguousJob, match="2 jobs"):
        client.find("0190abc")
    with pytest.raises(NoSuchJob):
        client.find("ffff")
    with pytest.raises(TooShort, match="four characters"):
        client.find("bc2")
    service.jobs = [make_job(id=make_id(number)) for number in range(7)]
    with pytest.raises(AmbiguousJob, match=f"{make_id(4)} … and 2 more"):
        client.find("0190")


def test_a_download_appears_whole_or_not_at_all(client: Any, service: Service, tmp_path: Path) -> None:
    job = client.submit(SPEC)
    assert job.download_model("m.keras").read_bytes() == b"a model " * 10_000
    assert job.learning_curves("c.svg").read_text() == "<svg/>"
    for place in ("/nonexistent/m.keras", tmp_path):
        with pytest.raises(NotWritten, match="cannot be written"):
            job.download_model(place)
    with pytest.raises(ValueError, match=r"\.png or \.svg"):
        job.learning_curves("c.pdf")
    service.jobs.clear()
    with pytest.raises(NotFound):
        job.download_model("m2.keras")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["c.svg", "m.keras"]


def test_readiness_is_told_in_words(client: Any, connect: Connect) -> None:
    assert client.missing() == "train_worker: warming up"
    assert connect(f"http://127.0.0.1:{free_port()}", "k").missing() == "the API"


# Datasets


def test_a_table_becomes_a_dataset_and_is_waited_for(client: Any, service: Service) -> None:
    added = client.datasets.add(table(), name="houses", task="regression", target="price", test=None)

    assert added == READ
    sent = parts(service)
    assert json.loads(sent["meta"][1]) == {
        "name": "houses", "task": "regression", "target": "price", "test": None,
    }  # fmt: skip
    name, content = sent["file"]
    assert name == "houses.parquet"
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(content)), table().reset_index(drop=True))


@pytest.mark.parametrize("why", ["no pyarrow", "mixed types"])
def test_a_table_that_parquet_cannot_hold_is_sent_as_csv(
    client: Any, service: Service, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    frame = table()
    if why == "no pyarrow":
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        monkeypatch.setitem(sys.modules, "fastparquet", None)
    else:
        frame["rooms"] = [3, "four"]
    client.datasets.add(frame, name="houses", task="regression", target="price")

    name, content = parts(service)["file"]
    assert name == "houses.csv"
    assert content.decode() == f"rooms,place,price\n3,sea,1.5\n{frame['rooms'].iloc[1]},,2.5\n"


def test_a_file_is_sent_as_it_is_and_a_packed_one_unpacked(
    client: Any, service: Service, tmp_path: Path
) -> None:
    (tmp_path / "houses.csv").write_bytes(b"rooms,price\n3,1.5\n")
    (tmp_path / "packed.csv.gz").write_bytes(gzip.compress(b"rooms,price\n4,2.5\n"))
    (tmp_path / "labels.gz").write_bytes(gzip.compress(b"labels"))
    (tmp_path / "broken.csv.gz").write_bytes(gzip.compress(b"rooms,price\n")[:-4])

    client.datasets.add("houses.csv", name="houses", task="regression", target="price")
    assert parts(service)["file"] == ("houses.csv", b"rooms,price\n3,1.5\n")
    client.datasets.add(tmp_path / "packed.csv.gz", targets="labels.gz", name="houses", task="regression")
    assert parts(service)["file"] == ("packed.csv", b"rooms,price\n4,2.5\n")
    assert parts(service)["targets"] == ("labels", b"labels")
    with pytest.raises(FileUnreadable, match="no whole gzip file"):
        client.datasets.add("broken.csv.gz", name="houses", task="regression")
    with pytest.raises(NoSuchFile):
        client.datasets.add("none.csv", name="houses", task="regression")
    with pytest.raises(TypeError, match="DataFrame"):
        client.datasets.add(3, name="houses", task="regression")


def test_arrays_are_sent_by_name(client: Any, service: Service) -> None:
    x, y = np.arange(8, dtype=np.uint8).reshape(2, 2, 2), np.array([0, 1])
    client.datasets.add({"x": x, "y": y}, name="pixels", task="binary")

    name, content = parts(service)["file"]
    stored = np.load(io.BytesIO(content))
    assert name == "pixels.npz"
    np.testing.assert_array_equal(stored["x"], x)
    assert (stored["x"].dtype, stored["y"].tolist()) == (np.uint8, [0, 1])


def test_rejected_data_is_told_with_line_column_and_value(client: Any, service: Service) -> None:
    service.uploads = [UPLOAD, REJECTED]
    with pytest.raises(DataRejected) as rejected:
        client.datasets.add(table(), name="houses", task="regression", target="price")

    assert rejected.value.problems == [ROWS_WRONG]
    assert str(rejected.value).splitlines() == [
        "houses.csv cannot be used:",
        "  line 17, column MedInc: Not a number. (got 'n/a'; expected a number; 12 times)",
    ]


def test_an_upload_need_not_be_waited_for(client: Any, service: Service) -> None:
    service.uploads = [UPLOAD]
    sent = client.datasets.add(table(), name="houses", task="regression", target="price", wait=False)
    assert sent["state"] == "processing"
    with pytest.raises(StillRunning, match="Upload u1"):
        client.datasets.wait(sent, timeout=0)


def test_datasets_are_listed_and_looked_into(client: Any) -> None:
    assert [one["name"] for one in client.datasets.list()] == ["fashion_mnist"]
    assert client.datasets.get("fashion_mnist")["state"] == "ready"
    assert client.datasets.versions("fashion_mnist") == [VERSION]
    assert client.datasets.ledger("fashion_mnist")[0]["subject"] == "evaluation"
    with pytest.raises(NotFound):
        client.datasets.get("nothing")


# Predictions


@pytest.mark.parametrize(
    ("rows", "instances"),
    [
        ([{"rooms": np.int64(3), "place": float("nan")}], [{"rooms": 3, "place": None}]),
        ({"rooms": 3, "place": pd.NA, "sold": pd.NaT}, [{"rooms": 3, "place": None, "sold": None}]),
        ([(1, 2.5)], [[1, 2.5]]),
        (np.array([[1.0, np.nan]]), [[1.0, None]]),
        ([np.array([1, 2])], [[1, 2]]),
    ],
    ids=["objects", "one object", "lists", "array", "arrays"],
)
def test_rows_are_sent_as_json(client: Any, service: Service, rows: object, instances: object) -> None:
    job = client.submit(SPEC)
    assert job.predict(rows, top_k=2, thresholds={"a": 0.3}) == PREDICTED

    asked = next(request for request in service.requests if request.path.endswith("/predictions"))
    assert json.loads(asked.body) == {"instances": instances, "top_k": 2, "thresholds": {"a": 0.3}}


def test_tables_files_and_large_arrays_are_sent_as_files(
    client: Any, service: Service, tmp_path: Path
) -> None:
    job = client.submit(SPEC)
    job.predict(table(), thresholds=0.4)
    assert parts(service)["file"][0] == "rows.parquet"
    assert json.loads(parts(service)["options"][1]) == {"thresholds": 0.4}

    (tmp_path / "rows.csv").write_text("rooms\n3\n")
    job.predict("rows.csv")
    assert parts(service) == {"file": ("rows.csv", b"rooms\n3\n")}

    pixels = np.ones((500, 28, 28))
    job.predict(pixels)
    name, content = parts(service)["file"]
    assert name == "rows.npz"
    np.testing.assert_array_equal(np.load(io.BytesIO(content))["x"], pixels)


def test_a_split_is_predicted_with_a_reason(client: Any, service: Service) -> None:
    client.submit(SPEC).predict(split="test", rows=[0, 5], reason="final")
    asked = next(request for request in service.requests if request.path.endswith("/predictions"))
    assert json.loads(asked.body) == {"split": "test", "rows": [0, 5], "reason": "final"}


@pytest.mark.parametrize("given", [{}, {"data": [[1]], "split": "test"}], ids=["nothing", "both"])
def test_either_rows_or_a_split_are_predicted(client: Any, given: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="either rows or the split"):
        client.submit(SPEC).predict(**given)


def test_what_cannot_be_predicted_is_an_error(client: Any, service: Service) -> None:
    job = client.submit(SPEC)
    service.predictions = [PREDICTION, FORETOLD | {"predictions": None, "problems": [ROWS_WRONG]}]
    with pytest.raises(DataRejected, match="line 17, column MedInc"):
        job.predict([[1]])
    service.predictions = [PREDICTION | {"state": "failed", "detail": "Its process was lost."}]
    with pytest.raises(PredictionFailed, match="Prediction p1 failed: Its process was lost"):
        job.predict([[1]])
    assert job.predictions() == [PREDICTION]


# Streams


def test_a_stream_is_taken_up_where_it_broke_off_and_ends_with_done(client: Any, service: Service) -> None:
    job = client.submit(SPEC)
    service.jobs[0] |= {"state": "succeeded", "queue": None}
    # One connection is lost before its answer, one in the middle of a message.
    service.streams = [STREAM, "lost", STREAM_END[:50], STREAM_END]
    service.requests.clear()
    service.mishaps = [0, None, 503]

    seen = list(job.stream())

    assert [event["event"] for event in seen] == ["state", "progress", "epoch", "epoch", "done"]
    assert seen[2] == {
        "event": "epoch", "epoch": 0, "metrics": {"loss": 0.7}, "learning_rate": 0.01, "seconds": 1.5,
    }  # fmt: skip
    asked = [request.headers.get("last-event-id") for request in service.requests]
    assert asked == [None, "1-2", "1-2", "1-2", "1-2", None]
    assert job.state == "succeeded"


def test_changes_of_all_jobs_are_told_over_lost_connections(client: Any, service: Service) -> None:
    service.streams = [
        f'id: {number}\nevent: job\ndata: {{"id": "{make_id(number)}"}}\n\n' for number in (1, 2)
    ]
    changes = client.changes()
    assert [next(changes)["id"], next(changes)["id"]] == [make_id(1), make_id(2)]
    changes.close()
    assert [request.headers.get("last-event-id") for request in service.requests] == [None, "1"]


def test_an_id_before_the_first_change_counts(client: Any, service: Service) -> None:
    service.streams = ["id: 1767\n\n", f'id: 1770\nevent: job\ndata: {{"id": "{make_id(1)}"}}\n\n']
    changes = client.changes()
    assert next(changes)["id"] == make_id(1)
    changes.close()
    assert [request.headers.get("last-event-id") for request in service.requests] == [None, "1767"]


def test_an_id_counts_once_its_block_is_whole(client: Any) -> None:
    reader = importlib.import_module("trainshed.sse").Reader("1")
    assert (list(reader.feed(b"id: 2\n")), reader.last_id) == ([], "1")
    assert (list(reader.feed(b"\n: alive\n\n")), reader.last_id) == ([], "2")


def test_a_message_is_told_once_it_is_whole(client: Any) -> None:
    reader = importlib.import_module("trainshed.sse").Reader()
    bytes_of = (STREAM + STREAM_END).replace("\n", "\r\n").encode()
    one_by_one = [message for byte in bytes_of for message in reader.feed(bytes([byte]))]
    assert [message.event for message in one_by_one] == [
        "state", "progress", "a kind of tomorrow", "epoch", "epoch", "done",
    ]  # fmt: skip


def test_what_has_happened_is_read_page_by_page(client: Any) -> None:
    assert list(client.submit(SPEC).events()) == EVENTS


# Jobs made from jobs, and what people write on them


def test_jobs_have_children(client: Any, service: Service) -> None:
    job = client.submit(SPEC)
    asked = {
        "continue": (job.continue_(30, early_stopping="reset"), {"epochs": 30, "early_stopping": "reset"}),
        "retry": (job.retry(), {}),
        "clone": (job.clone({"fit.epochs": 5}), {"set": {"fit.epochs": 5}}),
    }
    for verb, (child, body) in asked.items():
        assert child.data["parent"] == {"job": job.id, "relation": verb}
        (sent,) = (request for request in service.requests if request.path.endswith(f"/{verb}"))
        assert json.loads(sent.body) == body


@pytest.mark.parametrize(
    ("changes", "patch"),
    [
        ({"note": "a try"}, {"note": "a try"}),
        ({"note": None}, {"note": None}),
        (
            {"labels": {"a": "b", "old": None}, "priority": 5},
            {"labels": {"a": "b", "old": None}, "priority": 5},
        ),
    ],
    ids=["note", "no note", "labels and priority"],
)
def test_only_what_is_named_is_changed(
    client: Any, service: Service, changes: dict[str, Any], patch: dict[str, Any]
) -> None:
    client.submit(SPEC).update(**changes)
    assert (service.requests[-1].method, json.loads(service.requests[-1].body)) == ("PATCH", patch)


def test_a_deletion_says_what_goes(client: Any, service: Service) -> None:
    client.submit(SPEC).delete(mlflow=True)
    assert service.requests[-1].query == [("artifacts", "true"), ("mlflow", "true")]
    assert service.jobs == []


def test_a_stream_of_a_job_that_is_deleted_ends_with_that(client: Any, service: Service) -> None:
    job = client.submit(SPEC)
    gone = {"id": job.id, "deleted_at": NOW}
    service.streams = [f"{STREAM}event: deleted\ndata: {json.dumps(gone)}\n\n"]
    *_, last = job.stream()
    assert last == {"event": "deleted", **gone}


def test_a_dataset_or_one_of_its_versions_is_deleted(client: Any, service: Service) -> None:
    client.datasets.delete("houses")
    client.datasets.delete("houses", version="abababab")
    assert [(one.method, one.path) for one in service.requests] == [
        ("DELETE", "/v1/datasets/houses"),
        ("DELETE", "/v1/datasets/houses/versions/abababab"),
    ]


# Results


def test_a_history_is_a_table_where_pandas_is_installed(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    job = client.submit(SPEC)
    curve = job.history()
    assert (curve.index.name, curve.index.tolist()) == ("epoch", [0, 1, 2])
    assert curve["val_accuracy"].tolist() == [0.85, 0.87, 0.885]
    assert curve["loss"].isna().tolist() == [False, False, True]

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert job.history() == job.history_json() == HISTORY


def test_a_model_needs_keras_and_says_so(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(KerasMissing, match="pip install"):
        client.submit(SPEC).model()


def test_pictures_of_evaluations_name_their_split(client: Any, service: Service, tmp_path: Path) -> None:
    job = client.submit(SPEC)
    assert job.confusion_matrix("m.png", split="test").read_bytes() == b"\x89PNG of confusion"
    assert service.requests[-1].query == [("split", "test")]
    assert job.predicted_vs_true(tmp_path / "p.svg").read_text() == "<svg>predicted</svg>"
    assert service.requests[-1].query == [("split", "validation")]


# The two clients


@pytest.mark.parametrize(("kind", "said"), SAID, ids=lambda value: getattr(value, "__name__", ""))
def test_the_server_of_these_tests_speaks_as_the_real_one(kind: type[BaseModel], said: list[Any]) -> None:
    for answer in said:
        kind.model_validate(answer)


def test_the_client_is_made_from_the_asynchronous_one() -> None:
    """Otherwise: `make client`."""
    for source in sync_client.sources():
        made = sync_client.TARGET / source.name
        assert made.read_text(encoding="utf-8") == sync_client.twin(source), made.name
        assert made.read_text(encoding="utf-8").startswith(f"# Made from trainshed/aio/{source.name} ")


def test_the_clients_are_found_by_name() -> None:
    assert trainshed.Client is importlib.import_module("trainshed.client").Client
    assert trainshed.AsyncClient is importlib.import_module("trainshed.aio.client").AsyncClient
    assert {"Client", "AsyncClient"} <= set(dir(trainshed))
    with pytest.raises(AttributeError, match="no attribute 'Clinet'"):
        _ = trainshed.Clinet
