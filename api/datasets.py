"""Datasets: which there are, and who looked at their test splits."""

from flask import Blueprint

from api.contract import contract
from api.parts import parts
from services import answers, datasets, results

blueprint = Blueprint("datasets", __name__, url_prefix="/v1/datasets")


@blueprint.get("")
@contract("List datasets", {200: answers.DatasetList})
def every() -> answers.DatasetList:
    """All datasets that a spec may name, by name."""
    with parts().store.reads.begin() as session:
        return answers.DatasetList(
            data=[datasets.describe(session, name) for name in datasets.names(session)]
        )


@blueprint.get("/<name>")
@contract("Show a dataset", {200: answers.Dataset})
def show(name: str) -> answers.Dataset:
    """Its state, newest version and schema."""
    with parts().store.reads.begin() as session:
        return datasets.describe(session, name)


@blueprint.get("/<name>/versions/<version>")
@contract("Show one version of a dataset", {200: answers.Dataset})
def version(name: str, version: str) -> answers.Dataset:
    """As the dataset, for a version given by its first digits."""
    with parts().store.reads.begin() as session:
        return datasets.describe_version(session, name, version)


@blueprint.get("/<name>/ledger")
@contract("Looks at a dataset's test split, oldest first", {200: answers.Ledger})
def ledger(name: str) -> answers.Ledger:
    """Who looked, with which job's model, when and why."""
    with parts().store.reads.begin() as session:
        datasets.describe(session, name)
        return answers.Ledger(data=results.ledger(session, name))
