"""The one door for specs: read, checked in form and in meaning, refused with every problem at once."""

from dataclasses import replace

from pydantic import ValidationError

from services.doubts import doubts
from services.meaning import problems_alone, problems_with
from services.problems import Problem, SpecInvalid
from services.schema import DatasetSchema
from services.spec import TrainSpec
from services.wording import problems_of


def check(document: object, schema: DatasetSchema | None) -> TrainSpec:
    """The spec in `document`, which is plain data. Raises SpecInvalid.

    Problems of form (keys, types, ranges) come all at once; problems of meaning come all at once where the
    form is right. Without a schema only what holds for every dataset is checked.
    """
    spec = _read(document)
    problems = problems_alone(spec)
    if schema is not None:
        problems += problems_with(spec, schema)
    if problems:
        raise SpecInvalid([as_sent(problem, document) for problem in problems])
    return spec


def warnings(spec: TrainSpec, schema: DatasetSchema | None) -> list[str]:
    """What will run, but is probably not meant: one sentence each."""
    return doubts(spec, schema)


def as_sent(problem: Problem, document: object) -> Problem:
    """With a pointer that ends at a short form, such as `Dense`: there are no keys to point at."""
    node, pointer = document, ""
    for step in problem.pointer.split("/")[1:]:
        if not isinstance(node, dict | list):
            break
        pointer += f"/{step}"
        node = node.get(step) if isinstance(node, dict) else node[int(step)]
    return replace(problem, pointer=pointer)


def _read(document: object) -> TrainSpec:
    if not isinstance(document, dict):
        message = "A spec is an object with the keys dataset, model, compile and fit."
        received = "nothing" if document is None else type(document).__name__
        raise SpecInvalid([Problem("wrong_type", "", message, received, "an object")])
    try:
        return TrainSpec.model_validate(document)
    except ValidationError as error:
        raise SpecInvalid(problems_of(document, error)) from None
