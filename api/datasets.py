"""Datasets: which there are, uploads of new ones, and who looked at their test splits."""

import shutil
from dataclasses import replace

from flask import Blueprint

from api.contract import Part, contract
from api.parts import caller, parts
from api.repeats import KEY_HEADER, request_key
from api.uploads import received_form
from services import answers, datasets, removals, results, uploads
from services.artifacts import upload_folder
from services.broker import HOUSEKEEPING_QUEUE
from services.ids import new_id
from services.meta import UploadMeta, read_meta
from services.problems import SpecInvalid

blueprint = Blueprint("datasets", __name__, url_prefix="/v1/datasets")


@blueprint.get("")
@contract("List datasets", {200: answers.DatasetList})
def every() -> answers.DatasetList:
    """All datasets that a spec may name, by name, without their statistics."""
    with parts().store.reads.begin() as session:
        return answers.DatasetList(
            data=[datasets.describe(session, name, in_full=False) for name in datasets.names(session)]
        )


@blueprint.post("")
@contract(
    "Upload a dataset, or a newer version of one",
    {202: answers.Upload, 200: answers.Upload},
    multipart={
        "file": Part("CSV, Parquet, NPZ, or the inputs as idx."),
        "targets": Part("The targets as idx.", is_required=False),
        "meta": Part("What the columns mean.", UploadMeta),
    },
    reads_body=False,
    headers=KEY_HEADER,
)
def upload() -> tuple[answers.Upload, int, dict[str, str]]:
    """202 and a Location to look at: the file is read by and by.

    200 with the upload that this Idempotency-Key made before.
    """
    settings, upload_id = parts().settings, new_id()
    key = request_key()
    folder = upload_folder(settings.artifact_root, upload_id)
    with received_form(folder, settings.upload_limit_mb * 2**20) as form:
        meta = _meta(form.meta)
        with parts().store.writes.begin() as session:
            received = uploads.receive(
                session, upload_id, caller().id, meta, form.files, None if key is None else key.key
            )
    if received.is_new:
        parts().doorbell.ring(HOUSEKEEPING_QUEUE)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    with parts().store.reads.begin() as session:
        answer = uploads.show(session, meta.name, received.upload_id)
    return answer, 202 if received.is_new else 200, {"Location": answer.links["self"]}


def _meta(document: object) -> UploadMeta:
    try:
        return read_meta(document)
    except SpecInvalid as error:
        raise SpecInvalid(
            [replace(problem, pointer=f"/meta{problem.pointer}") for problem in error.problems]
        ) from None


@blueprint.get("/<name>")
@contract("Show a dataset", {200: answers.Dataset})
def show(name: str) -> answers.Dataset:
    """Its state, newest version, schema and statistics."""
    with parts().store.reads.begin() as session:
        return datasets.describe(session, name)


@blueprint.delete("/<name>")
@contract("Delete an uploaded dataset", {204: None})
def delete(name: str) -> tuple[str, int]:
    """204: its versions, their files and its uploads are gone, and the name is free.

    409 while a job that has not ended uses it. Jobs that have ended keep their results.
    """
    with parts().store.writes.begin() as session:
        deleted = removals.delete(session, name, caller().id)
    return _remove_files(deleted)


def _remove_files(deleted: list[str]) -> tuple[str, int]:
    for sha256 in deleted:
        removals.remove_files(parts().store, parts().settings.artifact_root, sha256)
    return "", 204


@blueprint.get("/<name>/versions")
@contract("Versions of a dataset, newest first", {200: answers.VersionList})
def versions(name: str) -> answers.VersionList:
    """Every content that it had."""
    with parts().store.reads.begin() as session:
        return answers.VersionList(data=datasets.versions(session, name))


@blueprint.get("/<name>/versions/<version>")
@contract("Show one version of a dataset", {200: answers.Dataset})
def version(name: str, version: str) -> answers.Dataset:
    """As the dataset, for a version given by its first digits."""
    with parts().store.reads.begin() as session:
        return datasets.describe_version(session, name, version)


@blueprint.delete("/<name>/versions/<version>")
@contract("Delete one of a dataset's versions", {204: None})
def delete_version(name: str, version: str) -> tuple[str, int]:
    """204; a spec that names no version gets the newest of the others.

    409 as for a dataset, and for its only version.
    """
    with parts().store.writes.begin() as session:
        deleted = removals.delete_version(session, name, version, caller().id)
    return _remove_files(deleted)


@blueprint.get("/<name>/uploads")
@contract("Uploads of a dataset, newest first", {200: answers.UploadList})
def all_uploads(name: str) -> answers.UploadList:
    """Those that became versions, and those that did not."""
    with parts().store.reads.begin() as session:
        return answers.UploadList(data=uploads.every(session, name))


@blueprint.get("/<name>/uploads/<upload_id>")
@contract("Show one upload", {200: answers.Upload})
def one_upload(name: str, upload_id: str) -> answers.Upload:
    """Its state, and every problem of its file."""
    with parts().store.reads.begin() as session:
        return uploads.show(session, name, upload_id)


@blueprint.get("/<name>/ledger")
@contract("Looks at a dataset's test split, oldest first", {200: answers.Ledger})
def ledger(name: str) -> answers.Ledger:
    """Who looked, with which job's model, when and why."""
    with parts().store.reads.begin() as session:
        datasets.describe(session, name, in_full=False)
        return answers.Ledger(data=results.ledger(session, name))
