"""The catalogue: each dataset comes whole and the same everywhere, or is refused with every source named."""

import gzip
import os
import pickle
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from services.catalogue import CATALOGUE
from services.schema import DatasetSchema, Features, Rows, Target, Task
from worker.preparing import Ready, Rejected, prepare
from worker.sources.cache import keep
from worker.sources.gathering import SOURCES
from worker.sources.idx import NotIdx, parse_idx
from worker.sources.material import Material, SourceFailed
from worker.sources.originals import read_california_housing, read_fashion_mnist, read_mnist
from worker.sources.scikit_learn import load_small
from worker.versions import DamagedVersion, SchemaMismatch, store_version, verify_version, with_target_range

CHECKOUT = Path(__file__).parents[1]
CALIFORNIA = CHECKOUT.parent / "shared" / "data" / "california_housing.csv.gz"

needs_california = pytest.mark.skipif(
    not CALIFORNIA.exists(), reason="the California housing table is not beside this checkout"
)

VERSIONS = {
    "iris": "bf3521750cebb45612ce0ea5dab9f3f9667a380a2ecb03178d28e42404432aef",
    "digits": "d9fecbc9b0f064ac26902c8107f02b3d0e29cfd60cff796ef8f534d04ac3d41e",
    "wine": "6fac61cca3fa7a675227c96f2d5b73479c3e4b574a433d83cb18bc78e8007a37",
    "breast_cancer": "17b503405775c4e66dafc603f6b85e4f3946328aee7bcc86c3797739fd015bae",
    "diabetes": "7bdf2d25ab7b4e8d46111f9eb1067287c1ddecad8e69fd9d320f9642affed94e",
    "fashion_mnist": "286952d8b549e2910d017d158ed241639f927d23c11f3a9f34a4bf722d8022a6",
    "california_housing": "4cd9685b76bbf610283e19a0b06f4d1a26bb30c719fba5ce1f0a961f28aefc66",
}


def test_the_catalogue_and_the_sources_name_the_same_datasets() -> None:
    assert set(CATALOGUE) == set(SOURCES)
    assert all(entry.name == entry.schema.name == name for name, entry in CATALOGUE.items())


@pytest.mark.parametrize("name", ["iris", "digits", "wine", "breast_cancer", "diabetes"])
def test_scikit_learns_tables_fit_the_catalogue_and_have_one_version_everywhere(
    name: str, tmp_path: Path
) -> None:
    material, schema = load_small(name), CATALOGUE[name].schema

    assert (
        store_version(tmp_path, with_target_range(schema, material.arrays), material.arrays) == VERSIONS[name]
    )
    assert material.feature_names == schema.features.names
    assert material.class_names == schema.target.class_names


def test_classes_are_in_both_parts_in_equal_shares() -> None:
    material = load_small("iris")

    assert np.bincount(material.train_y).tolist() == [40, 40, 40]
    assert np.bincount(material.test_y).tolist() == [10, 10, 10]


def test_a_prepared_dataset_is_memory_mappable_and_its_test_part_is_sealed(tmp_path: Path) -> None:
    ready = prepare("iris", tmp_path)

    assert isinstance(ready, Ready)
    assert ready.schema == CATALOGUE["iris"].schema
    folder = tmp_path / "datasets" / ready.sha256
    assert DatasetSchema.model_validate_json((folder / "schema.json").read_text()) == ready.schema
    assert np.load(folder / "train" / "x.npy", mmap_mode="r", allow_pickle=False).shape == (120, 4)
    assert stat.S_IMODE((folder / "test").stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "test" / "x.npy").stat().st_mode) == 0o400
    verify_version(tmp_path, ready.sha256)


@needs_california
def test_california_housing_is_split_as_in_a_notebook(tmp_path: Path) -> None:
    keep([CALIFORNIA.name], CALIFORNIA.parent, tmp_path / "sources" / "california_housing")
    table = np.loadtxt(CALIFORNIA, delimiter=",", skiprows=1)
    x_full, x_test, y_full, y_test = train_test_split(table[:, :8], table[:, 8], random_state=42)

    ready = prepare("california_housing", tmp_path)

    assert isinstance(ready, Ready)
    assert ready.sha256 == VERSIONS["california_housing"]
    assert (ready.schema.target.minimum, ready.schema.target.maximum) == pytest.approx((0.14999, 5.00001))
    folder = tmp_path / "datasets" / ready.sha256
    for part, expected in {
        "train/x": x_full,
        "train/y": y_full,
        "test/x": x_test,
        "test/y": y_test,
    }.items():
        assert np.array_equal(np.load(folder / f"{part}.npy"), expected.astype("float32"))


@needs_california
def test_what_scikit_learn_downloaded_before_is_used_and_kept(tmp_path: Path) -> None:
    table = np.loadtxt(CALIFORNIA, delimiter=",", skiprows=1)
    households = np.rint(table[:, 4] / table[:, 5])
    rooms, bedrooms = np.rint(table[:, 2] * households), np.rint(table[:, 3] * households)
    dollars = np.rint(table[:, 8] * 100_000)
    raw = np.column_stack(
        [
            dollars,
            table[:, 0],
            table[:, 1],
            rooms,
            bedrooms,
            table[:, 4],
            households,
            table[:, 6],
            table[:, 7],
        ]
    )
    (tmp_path / "scikit_learn_data").mkdir()
    (tmp_path / "scikit_learn_data" / "cal_housing_py3.pkz").write_bytes(pickle.dumps(raw))

    first = prepare("california_housing", tmp_path, environment=_alone(tmp_path))
    again = prepare("california_housing", tmp_path, environment=_alone(tmp_path / "nowhere"))

    assert isinstance(first, Ready)
    assert isinstance(again, Ready)
    assert first.sha256 == again.sha256 == VERSIONS["california_housing"]
    assert [source.name for source in first.sources] == ["cache", "scikit-learn's cache"]
    assert [source.name for source in again.sources] == ["cache"]


@needs_california
def test_a_table_with_one_changed_value_is_refused(tmp_path: Path) -> None:
    text = gzip.decompress(CALIFORNIA.read_bytes()).decode()
    (tmp_path / "california_housing.csv").write_text(text.replace("8.3252", "8.3253", 1))

    with pytest.raises(SourceFailed, match="is not the original"):
        read_california_housing(tmp_path)


@pytest.mark.slow
def test_fashion_mnist_comes_from_some_source_and_then_from_the_cache(tmp_path: Path) -> None:
    first = prepare("fashion_mnist", tmp_path)
    if isinstance(first, Rejected) and re.search(r"Failed to fetch|Could not|not installed", first.problem):
        pytest.skip(f"no network: {first.problem}")
    again = prepare("fashion_mnist", tmp_path, environment=_alone(tmp_path))

    assert isinstance(first, Ready)
    assert isinstance(again, Ready)
    assert first.sha256 == again.sha256 == VERSIONS["fashion_mnist"]
    assert [source.name for source in again.sources] == ["cache"]
    labels = np.load(tmp_path / "datasets" / first.sha256 / "test" / "y.npy")
    class_names = first.schema.target.class_names or []
    assert [class_names[label] for label in labels[:3]] == ["Ankle boot", "Pullover", "Trouser"]


def test_without_any_source_each_is_named_with_its_reason(tmp_path: Path) -> None:
    rejected = prepare("fashion_mnist", tmp_path, environment=_alone(tmp_path))

    assert isinstance(rejected, Rejected)
    names = ["cache", "Keras's cache", "Keras's downloader", "Debian's package dataset-fashion-mnist"]
    assert [source.name for source in rejected.sources] == names
    assert all(
        source.why and f"{source.name}: {source.why}" in rejected.problem for source in rejected.sources
    )
    assert "apt-get is not installed on this machine." in rejected.problem
    assert not (tmp_path / "datasets").exists()


def test_mnist_has_no_silent_substitute(tmp_path: Path) -> None:
    rejected = prepare("mnist", tmp_path, environment=_alone(tmp_path))

    assert isinstance(rejected, Rejected)
    names = ["cache", "Keras's cache", "Keras's downloader"]
    assert [source.name for source in rejected.sources] == names
    assert "Connection refused" in rejected.problem


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"not zipped", "cannot be unzipped"),
        (gzip.compress(b"\0\0\x08")[:-9], "cannot be unzipped"),
        (gzip.compress(b"PK\x03\x04 something"), "no idx magic number"),
        (gzip.compress(struct.pack(">4I", 0x0803, 60_000, 28, 28)), "holds 16 bytes"),
        (gzip.compress(struct.pack(">4I", 0x0803, 2, 1, 1) + b"ab"), "expected (60000, 28, 28)"),
        (
            gzip.compress(struct.pack(">4I", 0x0803, 60_000, 28, 28) + bytes(60_000 * 28 * 28), 1),
            "is not the original",
        ),
        (gzip.compress(bytes(48_000_000), 1), "holds more than 47040016 bytes"),
    ],
    ids=["no-gzip", "cut", "no-idx", "empty", "small", "black", "large"],
)
def test_a_wrong_original_is_refused_with_a_sentence(content: bytes, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content)

    with pytest.raises(SourceFailed, match=re.escape(complaint)):
        read_fashion_mnist(tmp_path)


def test_a_wrong_mnist_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", x_train=np.zeros(3))

    with pytest.raises(SourceFailed, match="is not the original"):
        read_mnist(tmp_path)


def test_idx_holds_every_number_type() -> None:
    assert parse_idx(struct.pack(">2I3h", 0x0B01, 3, -1, 0, 300)).tolist() == [-1, 0, 300]
    assert parse_idx(struct.pack(">3I2d", 0x0E02, 1, 2, 0.5, -2.5)).tolist() == [[0.5, -2.5]]
    assert parse_idx(struct.pack(">2I", 0x0801, 0)).shape == (0,)


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08", b"\0\0\x08\0", b"\0\0\x08\x02\0\0", b"\0\0\x07\x01" + bytes(4)]
)
def test_what_is_no_whole_idx_file_is_refused(content: bytes) -> None:
    with pytest.raises(NotIdx):
        parse_idx(content)


def test_an_unexpected_end_of_the_child_is_a_rejection_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file where the artifact root should be")

    rejected = prepare("iris", tmp_path / "root")

    assert isinstance(rejected, Rejected)
    assert "exit status 1" in rejected.problem
    assert "NotADirectoryError" in rejected.problem


def test_the_child_and_its_programs_die_with_their_parent(tmp_path: Path) -> None:
    script = "import pathlib; from worker.preparing import prepare; prepare('mnist', pathlib.Path('root'))"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        environment = _alone(tmp_path) | {
            "https_proxy": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "PYTHONPATH": str(CHECKOUT),
            "TMPDIR": str(tmp_path),
        }
        parent = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=environment)
        downloader, _ = silent.accept()
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        with closing(downloader):
            # Less than the five seconds after which the downloader would give up by itself.
            downloader.settimeout(4)
            assert _drained(downloader)


def test_equal_content_is_one_version_whatever_its_name_and_nothing_is_rewritten(tmp_path: Path) -> None:
    schema, material = _tiny()
    version = store_version(tmp_path, schema, material.arrays)
    before = _inodes(tmp_path)

    other_name = schema.model_copy(update={"name": "another"})
    assert store_version(tmp_path, other_name, material.arrays) == version
    assert _inodes(tmp_path) == before


def test_other_class_names_are_another_version(tmp_path: Path) -> None:
    schema, material = _tiny()
    target = schema.target.model_copy(update={"class_names": ["yes", "no"]})

    version = store_version(tmp_path, schema, material.arrays)
    assert store_version(tmp_path, schema.model_copy(update={"target": target}), material.arrays) != version


def test_many_writers_of_one_version_leave_one_whole_folder(tmp_path: Path) -> None:
    schema, material = _tiny()

    with ThreadPoolExecutor(8) as threads:
        versions = set(threads.map(lambda _: store_version(tmp_path, schema, material.arrays), range(32)))

    assert [folder.name for folder in (tmp_path / "datasets").iterdir()] == list(versions)
    verify_version(tmp_path, versions.pop())


def test_the_order_of_the_bytes_in_memory_does_not_matter(tmp_path: Path) -> None:
    schema, material = _tiny()
    swapped = {
        part: np.asfortranarray(array.astype(array.dtype.newbyteorder(">")))
        for part, array in material.arrays.items()
    }

    assert store_version(tmp_path / "a", schema, swapped) == store_version(
        tmp_path / "b", schema, material.arrays
    )


@pytest.mark.parametrize("file", ["test/y.npy", "train/x.npy", "schema.json"])
def test_a_damaged_version_is_found(file: str, tmp_path: Path) -> None:
    schema, material = _tiny()
    version = store_version(tmp_path, schema, material.arrays)
    path = tmp_path / "datasets" / version / file
    content = bytearray(path.read_bytes())
    path.chmod(0o600)
    content[-5] ^= 1
    path.write_bytes(content)

    with pytest.raises(DamagedVersion, match=version):
        verify_version(tmp_path, version)


def test_a_lost_file_is_damage(tmp_path: Path) -> None:
    schema, material = _tiny()
    version = store_version(tmp_path, schema, material.arrays)
    shutil.rmtree(tmp_path / "datasets" / version / "test")

    with pytest.raises(DamagedVersion, match="cannot be read"):
        verify_version(tmp_path, version)


def test_arrays_that_are_not_what_the_schema_says_are_refused_all_at_once(tmp_path: Path) -> None:
    schema, material = _tiny()
    arrays = material.arrays | {
        "train/x": material.train_x[:2],
        "train/y": material.train_y + np.uint8(1),
        "test/x": material.test_x * np.float32("nan"),
    }

    with pytest.raises(SchemaMismatch) as caught:
        store_version(tmp_path, schema, arrays)

    assert caught.value.differences == [
        "train/x is float32 (2, 2), expected float32 (3, 2).",
        "train/y holds the class id 2, which has no class name.",
        "test/x holds values that are not finite numbers.",
    ]
    assert not (tmp_path / "datasets").exists()


def test_the_parent_side_and_the_catalogue_load_nothing_heavy() -> None:
    script = (
        "import sys, services.catalogue, worker.preparing;"
        "print(sorted({'numpy', 'sklearn', 'keras', 'tensorflow', 'pandas'} & set(sys.modules)))"
    )

    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )

    assert answer.stdout.strip() == "[]"


def _tiny() -> tuple[DatasetSchema, Material]:
    schema = DatasetSchema(
        name="tiny",
        task=Task.BINARY,
        features=Features(shape=(2,), dtype="float32", names=["a", "b"]),
        target=Target(shape=(), dtype="uint8", names=["class"], class_names=["no", "yes"]),
        rows=Rows(train=3, test=1),
    )
    x = np.arange(8, dtype="float32").reshape(4, 2)
    y = np.array([0, 1, 1, 0], "uint8")
    return schema, Material(x[:3], y[:3], x[3:], y[3:])


def _alone(home: Path) -> dict[str, str]:
    """An environment with another home, no programs to call, and a proxy that refuses every connection."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        proxy = f"http://127.0.0.1:{closed.getsockname()[1]}"
    return os.environ | {
        "HOME": str(home),
        "PATH": str(home),
        "http_proxy": proxy,
        "https_proxy": proxy,
        "no_proxy": "",
    }


def _inodes(root: Path) -> list[tuple[str, int, int]]:
    return sorted((str(path), path.stat().st_ino, path.stat().st_mtime_ns) for path in root.rglob("*"))


def _drained(connection: socket.socket) -> bool:
    """Whether the other side closes the connection in time."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True
