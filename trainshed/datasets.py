# Made from trainshed/aio/datasets.py by `make client`; change that file.
"""The server's datasets."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from trainshed.answers import Dataset, Look, Upload, Version
from trainshed.errors import DataRejected
from trainshed.payloads import Payload, payload
from trainshed.polling import until_ended
from trainshed.transport import Transport
from trainshed.waiting import to_thread

HOLD = 120  # seconds in which the server writes down what was sent
ALL = "/v1/datasets"


class Datasets:
    """What a spec may name as its dataset."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, name: str, *, version: str | None = None) -> Dataset:
        """One dataset as its newest version, or as the one that begins so. Raises NotFound."""
        path = f"{ALL}/{name}" + (f"/versions/{version}" if version else "")
        return cast(Dataset, self._transport.get(path))

    def add(
        self,
        data: object,
        *,
        name: str,
        task: str,
        target: str | list[str] | None = None,
        targets: str | Path | None = None,
        wait: bool = True,
        timeout: float = 600,
        **meta: object,
    ) -> Upload:
        """Sends data that becomes the newest version of a dataset; returns when a spec can name it.

        `data`: a file's path (a `.gz` is unpacked on the way), a pandas DataFrame, or NumPy arrays by name.
        `task`: regression, binary, multiclass or multilabel. `target`: the column or columns to predict.
        `targets`: a second file that holds them. `meta`: everything else that may be said, such as
        `test={"fraction": 0.2}`. Without `wait` it returns as soon as the data was sent. Raises NoSuchFile,
        DataRejected (with every problem of the data), Refused, Conflict, and StillRunning after `timeout`
        seconds.
        """
        said = {"name": name, "task": task} | ({} if target is None else {"target": target}) | meta
        opened = to_thread(payload, data, name)
        with opened.file:
            sent = self._send(said, opened, targets)
        return self.wait(sent, timeout=timeout) if wait else sent

    def wait(self, upload: Upload, *, timeout: float = 600) -> Upload:
        """Returns when the upload is ready. Raises DataRejected, StillRunning after `timeout` seconds."""
        ended = until_ended(
            upload,
            lambda: self.upload(upload["dataset"], upload["id"]),
            what="Upload",
            timeout=timeout,
        )
        if ended["state"] == "rejected":
            raise DataRejected(ended["filename"], ended)
        return ended

    def upload(self, name: str, upload_id: str) -> Upload:
        """One upload. Raises NotFound."""
        return cast(Upload, self._transport.get(f"{ALL}/{name}/uploads/{upload_id}"))

    def uploads(self, name: str) -> list[Upload]:
        """All uploads of a dataset, newest first."""
        return cast(list[Upload], (self._transport.get(f"{ALL}/{name}/uploads"))["data"])

    def versions(self, name: str) -> list[Version]:
        """All versions of a dataset, newest first."""
        return cast(list[Version], (self._transport.get(f"{ALL}/{name}/versions"))["data"])

    def ledger(self, name: str) -> list[Look]:
        """All looks at a dataset's test split, oldest first."""
        return cast(list[Look], (self._transport.get(f"{ALL}/{name}/ledger"))["data"])

    def delete(self, name: str, *, version: str | None = None) -> None:
        """Deletes an uploaded dataset with all its versions, or one of several, and the files.

        Jobs that have ended keep their results. Raises NotFound, and Conflict while jobs use it, for somebody
        else's and for one that comes with the service.
        """
        path = f"{ALL}/{name}" + (f"/versions/{version}" if version else "")
        self._transport.send("DELETE", path)

    def _send(self, said: Mapping[str, Any], opened: Payload, targets: str | Path | None) -> Upload:
        body = {"meta": json.dumps(said)}
        files = {"file": (opened.filename, opened.file)}
        if targets is None:
            return self._post(body, files)
        second = to_thread(payload, targets, "targets")
        with second.file:
            return self._post(body, files | {"targets": (second.filename, second.file)})

    def _post(self, data: Mapping[str, str], files: Any) -> Upload:
        return cast(Upload, self._transport.post(ALL, {"data": data, "files": files}, hold=HOLD))

    # The last, since it hides the type of its name from what follows.
    def list(self) -> list[Dataset]:
        """All datasets, by name."""
        return cast("list[Dataset]", (self._transport.get(ALL))["data"])
