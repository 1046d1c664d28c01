"""Keras's own downloader, in a separate process: importing Keras imports TensorFlow, which takes seconds."""

from pathlib import Path
from typing import Final

from worker.sources.bounded import run_python
from worker.sources.material import SourceFailed

# The folder that keras.datasets downloads from.
ORIGIN: Final = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"

# Asked first, so that a machine without a way out learns it before TensorFlow is imported.
_REACH: Final = """
import sys, urllib.request
try:
    urllib.request.urlopen(urllib.request.Request(sys.argv[1], method="HEAD"), timeout=5).close()
except OSError as error:
    sys.exit(str(getattr(error, "reason", error)))
"""
_REACH_SECONDS: Final = 10.0

# The address-space limit is lifted: TensorFlow for GPUs maps more than it uses. Keras sets no socket timeout.
_DOWNLOAD: Final = """
import importlib, os, resource, socket, sys
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
socket.setdefaulttimeout(20)
os.environ.update(KERAS_HOME=sys.argv[1], KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="-1")
importlib.import_module("keras.datasets." + sys.argv[2]).load_data()
"""
_DOWNLOAD_SECONDS: Final = 300.0


def fashion_mnist_downloaded(_cache: Path, workspace: Path) -> Path:
    """Four gzipped idx files."""
    _download("fashion_mnist", f"{ORIGIN}/train-labels-idx1-ubyte.gz", workspace)
    return workspace / "datasets" / "fashion-mnist"


def mnist_downloaded(_cache: Path, workspace: Path) -> Path:
    """One file, mnist.npz."""
    _download("mnist", f"{ORIGIN}/mnist.npz", workspace)
    return workspace / "datasets"


def _download(name: str, probe: str, workspace: Path) -> None:
    try:
        run_python(_REACH, probe, seconds=_REACH_SECONDS, folder=workspace)
    except SourceFailed as failure:
        raise SourceFailed(f"{probe} does not answer: {failure}") from failure
    run_python(_DOWNLOAD, str(workspace), name, seconds=_DOWNLOAD_SECONDS, folder=workspace)
