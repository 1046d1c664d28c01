"""What a person says of a file that is to become a dataset: the `meta` of an upload."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from services.checking import as_sent
from services.problems import Problem, SpecInvalid, pointer_to
from services.schema import Task
from services.spec import MAX_ROWS, MAX_SEED
from services.spelling import composed
from services.vocabulary import Number, Part, Whole
from services.wording import nearest, problems_of

MOST_COLUMNS = 10_000
MOST_CLASSES = 1_000
STRATEGIES = ("mean", "median", "most_frequent")
USUAL_MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "?")

Strategy = Literal["mean", "median", "most_frequent"]


def _name(text: str) -> str:
    allowed = "abcdefghijklmnopqrstuvwxyz0123456789"
    if not text or text[0] not in allowed or not set(text) <= {*allowed, *"_.-"} or len(text) > 64:
        raise PydanticCustomError(
            "bad_name",
            "this cannot be the name of a dataset",
            {"expected": "lower-case letters, digits, `_`, `-`, `.`, at most 64; a letter or a digit first"},
        )
    return text


def _readable(text: str) -> str:
    if not text.strip() or text != text.strip() or not text.isprintable():
        raise PydanticCustomError(
            "bad_text",
            "this text is empty, begins or ends with a blank, or cannot be printed",
            {"expected": "a name as it stands in the file, without blanks around it"},
        )
    return composed(text)


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise PydanticCustomError(
                "duplicate_name",
                "`{name}` is named twice",
                {"name": name, "at": [index], "expected": "each once"},
            )
    return names


ColumnName = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_readable)]
ColumnNames = Annotated[
    tuple[ColumnName, ...],
    Field(max_length=MOST_COLUMNS),
    AfterValidator(_each_once),
    BeforeValidator(_several),
]
SomeColumnNames = Annotated[ColumnNames, Field(min_length=1)]
ClassNames = Annotated[
    tuple[ColumnName, ...], Field(min_length=2, max_length=MOST_CLASSES), AfterValidator(_each_once)
]
MissingText = Annotated[str, Field(max_length=64), AfterValidator(composed)]


class SealedFraction(Part):
    """A share of the rows, drawn at random, rounded up."""

    fraction: Annotated[Number, Field(gt=0, lt=1)]


class SealedCount(Part):
    """A number of rows drawn at random."""

    count: Annotated[Whole, Field(ge=1, le=MAX_ROWS)]


class SealedLast(Part):
    """The last rows of the file."""

    last: Annotated[Whole, Field(ge=1, le=MAX_ROWS)]


def _way_to_seal(value: object) -> str | None:
    if isinstance(value, str):
        return "column"
    given = value if isinstance(value, Mapping) else getattr(value, "__dict__", {})
    ways = [way for way in ("fraction", "count", "last") if way in given]
    return ways[0] if len(ways) == 1 else None


def _one_way(value: object) -> object:
    if value is not None and _way_to_seal(value) is None:
        raise PydanticCustomError(
            "which_test",
            "the test split is given in exactly one way",
            {
                "expected": "{fraction: 0.2}, {count: 1000}, {last: 1000}, or the name of a column that says "
                "which rows; null for none"
            },
        )
    return value


Sealed = Annotated[
    Annotated[SealedFraction, Tag("fraction")]
    | Annotated[SealedCount, Tag("count")]
    | Annotated[SealedLast, Tag("last")]
    | Annotated[ColumnName, Tag("column")],
    Discriminator(_way_to_seal),
]


def _filling(value: object) -> object:
    """`missing` is checked here as a whole: a strategy, or one rule for each column named."""
    expected = f"null, one of {', '.join(STRATEGIES)}, or an object such as {{age: median, city: unknown}}"
    if isinstance(value, Mapping):
        for column, rule in value.items():
            if isinstance(rule, bool) or not isinstance(rule, str | int | float) or rule == "":
                raise PydanticCustomError(
                    "wrong_type",
                    "what stands in for a missing value is a strategy, a number or a text",
                    {"at": [column], "expected": f"one of {', '.join(STRATEGIES)}, a number, or a text"},
                )
        return {
            column: composed(rule) if isinstance(rule, str) else float(rule) for column, rule in value.items()
        }
    if value is not None and value not in STRATEGIES:
        close = nearest(value, STRATEGIES) if isinstance(value, str) else None
        hint = f" (did you mean `{close}`?)" if close else ""
        raise PydanticCustomError(
            "unknown_name",
            "this is no way to fill in missing values{hint}",
            {"hint": hint, "expected": expected},
        )
    return value


class CsvOptions(Part):
    """How a CSV file is written; null: found out from its first lines."""

    delimiter: Literal[",", ";", "\t", "|"] | None = None
    decimal: Literal[".", ","] | None = None


class UploadMeta(Part):
    """What the columns of a file mean, and which rows are sealed as its test split."""

    called = "`meta`"

    name: Annotated[str, AfterValidator(_name)] = Field(description="What specs will call the dataset.")
    task: Task = Field(description="What is predicted: regression, binary, multiclass or multilabel.")
    target: SomeColumnNames | None = Field(
        default=None,
        description="The column that is predicted, or several; needed for CSV and Parquet. "
        "NPZ and idx: names for their targets.",
    )
    features: SomeColumnNames | None = Field(
        default=None, description="Columns that are inputs, in this order; null: all that have no other part."
    )
    categorical: ColumnNames = Field(
        default=(), description="Features whose values are names, not amounts: one input for each value."
    )
    class_names: ClassNames | None = Field(
        default=None, description="The classes in the order of their ids; null: those in the file, sorted."
    )
    weight: ColumnName | None = Field(
        default=None, description="A column that weighs the training rows: numbers from 0 up."
    )
    test: Annotated[Sealed | None, BeforeValidator(_one_way)] = Field(
        default=SealedFraction(fraction=0.2),
        description="Rows that are sealed as the test split: {fraction: 0.2}, {count: 1000}, {last: 1000}, "
        "or a column with yes or no (1/0, true/false, test/train); null: none.",
    )
    split_column: ColumnName | None = Field(
        default=None,
        description="A column that says train, validation or test for each row; instead of `test`.",
    )
    seed: Annotated[Whole, Field(ge=0, le=MAX_SEED)] = Field(
        default=0, description="Decides which rows are drawn for the test split."
    )
    missing: Annotated[Strategy | dict[ColumnName, str | float] | None, BeforeValidator(_filling)] = Field(
        default=None,
        description="What stands in for missing inputs: mean, median or most_frequent of the training rows, "
        "or an object with one of these, a number or a text for each column; null: they are refused.",
    )
    missing_values: Annotated[tuple[MissingText, ...], Field(max_length=100)] = Field(
        default=USUAL_MISSING, description="Texts that mean that a value is missing."
    )
    csv: CsvOptions = Field(default=CsvOptions(), description="How a CSV file is written.")
    description: Annotated[str, Field(max_length=500)] = Field(
        default="", description="One sentence for people."
    )

    @model_validator(mode="before")
    @classmethod
    def _split_column_says_it_all(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("split_column") is not None and "test" not in data:
            return {**data, "test": None}
        return data

    @property
    def test_column(self) -> str | None:
        """The column that says which rows are sealed."""
        return self.test if isinstance(self.test, str) else None

    @property
    def has_classes(self) -> bool:
        """Whether targets are class ids."""
        return self.task in {Task.BINARY, Task.MULTICLASS}


def read_meta(document: object) -> UploadMeta:
    """The meta in `document`, which is plain data; raises SpecInvalid with every problem at once."""
    if not isinstance(document, Mapping):
        message = "`meta` is an object with the keys name, task and target."
        raise SpecInvalid([Problem("wrong_type", "", message, type(document).__name__, "an object")])
    try:
        meta = UploadMeta.model_validate(document)
    except ValidationError as error:
        raise SpecInvalid(problems_of(document, error, UploadMeta)) from None
    if problems := [*_two_parts(meta), *_splits(meta), *_classes(meta), *_inputs(meta), *_csv(meta)]:
        raise SpecInvalid([as_sent(problem, document) for problem in problems])
    return meta


def parts_of_columns(meta: UploadMeta) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """Each column that `meta` gives a part other than being an input, and where it says so."""
    for index, name in enumerate(meta.target or ()):
        yield name, ("target", index)
    for key, column in (
        ("weight", meta.weight),
        ("test", meta.test_column),
        ("split_column", meta.split_column),
    ):
        if column is not None:
            yield column, (key,)


def _two_parts(meta: UploadMeta) -> Iterator[Problem]:
    taken = dict.fromkeys(meta.features or (), "features")
    for name, place in parts_of_columns(meta):
        if name in taken:
            other, here = taken[name], str(place[0])
            message = f"`{name}` is named in `{other}` and in `{here}`; a column has one part."
            if "features" in (other, here) and here == "target":
                message += " A model that sees the target has nothing to learn."
            yield Problem("two_parts", pointer_to(*place), message, name, "each column in one place")
        taken.setdefault(name, str(place[0]))


def _splits(meta: UploadMeta) -> Iterator[Problem]:
    if meta.split_column is not None and meta.test is not None:
        message = "`test` and `split_column` both say which rows are sealed."
        yield Problem("two_splits", "/test", message, expected="one of the two")


def _classes(meta: UploadMeta) -> Iterator[Problem]:
    targets = len(meta.target or ())
    if meta.has_classes and targets > 1:
        message = f"A {meta.task} target is one column with the class; {targets} are named."
        yield Problem(
            "wrong_target", "/target", message, list(meta.target or ()), "one column, or task: multilabel"
        )
    if meta.task is Task.MULTILABEL and targets == 1:
        message = "A multilabel target has a column of 0 and 1 for each label; one is named."
        yield Problem("wrong_target", "/target", message, meta.target, "several columns, or task: binary")
    if meta.class_names is None:
        return
    if not meta.has_classes:
        message = f"`class_names` names classes, and a {meta.task} target has none."
        yield Problem("class_names_without_classes", "/class_names", message, expected="null")
    elif meta.task is Task.BINARY and len(meta.class_names) != 2:
        message = f"A binary target has two classes; {len(meta.class_names)} are named."
        yield Problem("wrong_classes", "/class_names", message, len(meta.class_names), "two names")


def _inputs(meta: UploadMeta) -> Iterator[Problem]:
    others = {name: str(place[0]) for name, place in parts_of_columns(meta)}
    for index, name in enumerate(meta.categorical):
        yield from _not_an_input(meta, name, others, ("categorical", index))
    if not isinstance(meta.missing, dict):
        return
    for name, rule in meta.missing.items():
        yield from _not_an_input(meta, name, others, ("missing", name))
        if problem := _unfit_rule(meta, name, rule):
            yield problem


def _not_an_input(
    meta: UploadMeta, name: str, others: Mapping[str, str], place: Sequence[str | int]
) -> Iterator[Problem]:
    key = place[0]
    if name in others and (meta.features is None or name not in meta.features):
        message = f"`{key}` is about inputs, and `{name}` is the `{others[name]}`."
        yield Problem("not_an_input", pointer_to(*place), message, name, "a column that is an input")
    elif meta.features is not None and name not in meta.features:
        close = nearest(name, meta.features)
        message = f"`{key}` names `{name}`, which is not among the features."
        message += f" Did you mean `{close}`?" if close else ""
        yield Problem("not_an_input", pointer_to(*place), message, name, "one of `features`")


def _unfit_rule(meta: UploadMeta, name: str, rule: str | float) -> Problem | None:
    pointer = pointer_to("missing", name)
    if name in meta.categorical and (rule in ("mean", "median") or not isinstance(rule, str)):
        message = f"`{name}` is categorical: its values are names."
        return Problem("wrong_rule", pointer, message, rule, "most_frequent, or a text")
    if name not in meta.categorical and isinstance(rule, str) and rule not in STRATEGIES:
        close = nearest(rule, STRATEGIES)
        message = f"`{name}` holds numbers, and {rule!r} is none." + (
            f" Did you mean `{close}`?" if close else ""
        )
        return Problem("wrong_rule", pointer, message, rule, f"one of {', '.join(STRATEGIES)}, or a number")
    return None


def _csv(meta: UploadMeta) -> Iterator[Problem]:
    if meta.csv.delimiter == meta.csv.decimal == ",":
        message = "A comma cannot end values and begin their decimals."
        yield Problem("two_parts", "/csv/decimal", message, ",", "another delimiter, such as ;")
