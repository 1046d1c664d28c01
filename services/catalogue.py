"""The datasets that come with the service, known in full before a byte of them is there."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from services.schema import DatasetSchema, Features, Rows, Target, Task


@dataclass(frozen=True)
class CatalogueEntry:
    """A dataset by name; specs are checked against `schema` before the data has been fetched."""

    name: str
    description: str
    schema: DatasetSchema


def _images(name: str, description: str, class_names: list[str]) -> CatalogueEntry:
    schema = DatasetSchema(
        name=name,
        task=Task.MULTICLASS,
        features=Features(shape=(28, 28), dtype="uint8"),
        target=Target(shape=(), dtype="uint8", names=["label"], class_names=class_names),
        rows=Rows(train=60_000, test=10_000),
    )
    return CatalogueEntry(name, description, schema)


def _table(
    name: str,
    description: str,
    *,
    features: list[str],
    target: str,
    rows: Rows,
    class_names: list[str] | None = None,
) -> CatalogueEntry:
    classes = 0 if class_names is None else len(class_names)
    schema = DatasetSchema(
        name=name,
        task={0: Task.REGRESSION, 2: Task.BINARY}.get(classes, Task.MULTICLASS),
        features=Features(shape=(len(features),), dtype="float32", names=features),
        target=Target(
            shape=(), dtype="uint8" if classes else "float32", names=[target], class_names=class_names
        ),
        rows=rows,
    )
    return CatalogueEntry(name, description, schema)


_DIGIT_NAMES: Final = [str(digit) for digit in range(10)]

_BREAST_CANCER_MEASURES: Final = [
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave points",
    "symmetry",
    "fractal dimension",
]

_ENTRIES: Final = (
    _images(
        "fashion_mnist",
        "70,000 grey pictures of 28 by 28 pixels, 0 to 255, of clothing in ten classes.",
        [
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ],
    ),
    _images(
        "mnist",
        "70,000 grey pictures of 28 by 28 pixels, 0 to 255, of handwritten digits.",
        _DIGIT_NAMES,
    ),
    _table(
        "california_housing",
        "Median house values, in 100,000 dollars, of 20,640 Californian districts in the census of 1990.",
        features=[
            "MedInc",
            "HouseAge",
            "AveRooms",
            "AveBedrms",
            "Population",
            "AveOccup",
            "Latitude",
            "Longitude",
        ],
        target="MedHouseVal",
        rows=Rows(train=15_480, test=5_160),
    ),
    _table(
        "iris",
        "Sizes of sepals and petals of 150 iris flowers of three species.",
        features=["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"],
        target="species",
        class_names=["setosa", "versicolor", "virginica"],
        rows=Rows(train=120, test=30),
    ),
    CatalogueEntry(
        "digits",
        "1,797 pictures of 8 by 8 pixels, 0 to 16, of handwritten digits.",
        DatasetSchema(
            name="digits",
            task=Task.MULTICLASS,
            features=Features(shape=(8, 8), dtype="float32"),
            target=Target(shape=(), dtype="uint8", names=["digit"], class_names=_DIGIT_NAMES),
            rows=Rows(train=1_437, test=360),
        ),
    ),
    _table(
        "wine",
        "Chemical analyses of 178 Italian wines from three cultivars.",
        features=[
            "alcohol",
            "malic_acid",
            "ash",
            "alcalinity_of_ash",
            "magnesium",
            "total_phenols",
            "flavanoids",
            "nonflavanoid_phenols",
            "proanthocyanins",
            "color_intensity",
            "hue",
            "od280/od315_of_diluted_wines",
            "proline",
        ],
        target="cultivar",
        class_names=["class_0", "class_1", "class_2"],
        rows=Rows(train=142, test=36),
    ),
    _table(
        "breast_cancer",
        "Measures of cell nuclei in 569 breast tumours, malignant or benign.",
        features=[
            *(f"mean {measure}" for measure in _BREAST_CANCER_MEASURES),
            *(f"{measure} error" for measure in _BREAST_CANCER_MEASURES),
            *(f"worst {measure}" for measure in _BREAST_CANCER_MEASURES),
        ],
        target="diagnosis",
        class_names=["malignant", "benign"],
        rows=Rows(train=455, test=114),
    ),
    _table(
        "diabetes",
        "Progression of diabetes in 442 patients a year after ten measures, which are centred and scaled.",
        features=["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"],
        target="progression",
        rows=Rows(train=353, test=89),
    ),
)

CATALOGUE: Final[Mapping[str, CatalogueEntry]] = MappingProxyType({entry.name: entry for entry in _ENTRIES})

BUNDLED: Final = frozenset({"iris", "digits", "wine", "breast_cancer", "diabetes"})
"""Those that come with scikit-learn itself and need no download."""
