"""MLflow's model folder around the trained model.keras, written without Keras, whose import costs seconds.

The folder is what `mlflow.keras.save_model` of MLflow 3.17 writes; a test loads it with MLflow's own loaders.
"""

import hashlib
import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from mlflow import pyfunc
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from mlflow.version import VERSION as MLFLOW_VERSION

from services.errors import TrainshedError
from services.export import Record
from services.schema import DatasetSchema
from services.shapes import output_shape

MODEL_NAME: Final = "model"
ENVIRONMENT_FILES: Final = {"conda_env": "conda.yaml", "python_env": "python_env.yaml"}
PINNED: Final = ("tensorflow", "keras", "numpy")


class ModelDamaged(TrainshedError):
    """model.keras is missing, or is not the file that the trainer wrote."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path.name} of job {path.parent.name} cannot be copied to MLflow: {why}.")


def write_model_folder(folder: Path, job_folder: Path, record: Record, run_id: str, model_id: str) -> None:
    """Fill the empty `folder`. Raises ModelDamaged."""
    source = _checked(job_folder / "model.keras", record.job.model_sha256)
    schema = record.schema
    if schema is None:
        raise ModelDamaged(source, "its dataset is unknown")
    (folder / "data").mkdir()
    # A link: the uploader reads through it, and a large model is not written twice.
    (folder / "data" / "model.keras").symlink_to(source)
    (folder / "data" / "keras_module.txt").write_text("keras")
    _write_environment(folder, record.job.environment)
    model = Model(
        artifact_path=None,
        run_id=run_id,
        model_id=model_id,
        model_uuid=model_id,
        utc_time_created=_ended(record),
        signature=_signature(record, schema),
        saved_input_example_info=_write_example(folder, job_folder / "input_example.npy"),
        model_size_bytes=source.stat().st_size,
    )
    _add_flavors(model, record.job.environment)
    model.save(str(folder / "MLmodel"))


def _checked(path: Path, sha256: str | None) -> Path:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelDamaged(path, error.strerror or str(error)) from error
    if found != sha256:
        raise ModelDamaged(path, f"its SHA-256 is {found}, not {sha256}")
    return path


def _ended(record: Record) -> datetime:
    # MLflow writes UTC without a zone.
    return datetime.fromtimestamp((record.job.finished_at or 0) / 1000, UTC).replace(tzinfo=None)


def _signature(record: Record, schema: DatasetSchema) -> ModelSignature:
    taken = TensorSpec(np.dtype(schema.features.dtype), (-1, *schema.features.shape))
    given = TensorSpec(np.dtype("float32"), (-1, *output_shape(record.spec, schema)))
    return ModelSignature(inputs=Schema([taken]), outputs=Schema([given]))


def _write_example(folder: Path, source: Path) -> dict[str, Any] | None:
    """Write the two files that MLflow makes of an array; returns what MLmodel says of them."""
    if not source.exists():
        return None
    example = np.load(source, allow_pickle=False).tolist()
    (folder / "input_example.json").write_text(json.dumps(example))
    (folder / "serving_input_example.json").write_text(json.dumps({"inputs": example}, indent=2))
    return {
        "artifact_path": "input_example.json",
        "serving_input_path": "serving_input_example.json",
        "type": "ndarray",
    }


def _add_flavors(model: Model, environment: dict[str, Any]) -> None:
    model.add_flavor(
        "keras",
        data="data",
        keras_version=environment.get("keras"),
        keras_backend="tensorflow",
        save_exported_model=False,
    )
    pyfunc.add_to_model(model, loader_module="mlflow.keras", **ENVIRONMENT_FILES)


def _write_environment(folder: Path, environment: dict[str, Any]) -> None:
    # The versions that trained the model; its Python is this one, as both come from one installation.
    pinned = [f"{name}=={environment[name]}" for name in PINNED if name in environment]
    requirements = [f"mlflow=={MLFLOW_VERSION}", *pinned]
    python = platform.python_version()
    conda = {
        "channels": ["conda-forge"],
        "dependencies": [f"python={python}", "pip", {"pip": requirements}],
        "name": "mlflow-env",
    }
    python_env = {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    (folder / "requirements.txt").write_text("\n".join(requirements))
    (folder / "conda.yaml").write_text(yaml.safe_dump(conda, sort_keys=False))
    (folder / "python_env.yaml").write_text(yaml.safe_dump(python_env, sort_keys=False))
