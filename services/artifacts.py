"""Where files are below the artifact root; paths only, nothing is opened here."""

from pathlib import Path


def dataset_folder(root: Path, version: str) -> Path:
    """Folder of one dataset version, named by its SHA-256."""
    return root / "datasets" / version


def job_folder(root: Path, job: str) -> Path:
    """Folder of everything one job leaves behind."""
    return root / "jobs" / job


def model_file(root: Path, job: str) -> Path:
    """The finished model in Keras's own format."""
    return job_folder(root, job) / "model.keras"


def log_file(root: Path, job: str, attempt: int) -> Path:
    """What the trainer of one attempt wrote to stdout and stderr."""
    return job_folder(root, job) / f"log-{attempt}.txt"


def compiled_programs(root: Path) -> Path:
    """What trainers compiled, kept for later jobs; may be emptied at any time."""
    return root / "compiled"


def upload_folder(root: Path, upload: str) -> Path:
    """The files of one upload as they came, until they were read."""
    return root / "uploads" / upload


def prediction_file(root: Path, prediction: str) -> Path:
    """The file with the rows of one prediction as it came, until they were predicted."""
    return root / "uploads" / f"prediction-{prediction}"
