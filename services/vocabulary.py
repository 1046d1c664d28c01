"""How a name in a spec becomes a class: Keras's names, their snake case, and its arguments as fields."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

Whole = Annotated[int, Field(strict=True)]
# Weights and their sums are float32; what is larger cannot be computed with.
LARGEST = 3.4e38
Number = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-LARGEST, le=LARGEST)]
Flag = Annotated[bool, Field(strict=True)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
Decay = Annotated[Number, Field(ge=0, lt=1)]


class Part(BaseModel):
    """A piece of a spec: frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    refused: ClassVar[dict[str, str]] = {}
    """Arguments that Keras has and a spec must not give, each with the sentence that says why."""
    called: ClassVar[str] = "the spec"
    """What sentences call a document of this class."""


class Component(Part):
    """A Keras object as data: `type` is the class, the other fields are its arguments."""

    type: str
    aliases: ClassVar[tuple[str, ...]] = ()
    """Keras's other names for the class, beside its snake case."""

    def keras_arguments(self) -> dict[str, Any]:
        """The arguments of Keras's constructor, nested objects as Keras's own class_name and config."""
        fields = type(self).model_fields
        return {key: _plain(getattr(self, key)) for key in fields if key != "type"}

    def keras_config(self) -> dict[str, Any]:
        """What Keras's `deserialize` functions take."""
        return {"class_name": type(self).__name__, "config": self.keras_arguments()}


def _plain(value: Any) -> Any:
    if isinstance(value, Component):
        return value.keras_config()
    if isinstance(value, BaseModel):
        return value.model_dump()
    return value


def key_of(name: str) -> str:
    """The form in which names are compared: `MeanSquaredError` and `mean_squared_error` have the same."""
    return name.replace("_", "").lower()


def snake_case(name: str) -> str:
    """The name that Keras gives an object of this class, as in `keras.utils.naming`."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def names_of(component: type[Component]) -> tuple[str, ...]:
    """Every name of a class, its own first."""
    return (component.__name__, *component.aliases)


class Spoken:
    """Lets a bare string stand for a type with its defaults, and any of a type's names for the type."""

    def __init__(self, *components: type[Component]) -> None:
        self._types = {
            key_of(name): c.model_fields["type"].default for c in components for name in names_of(c)
        }

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._in_full, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        in_full = handler(schema)
        if handler.mode == "serialization":
            return in_full
        return {"anyOf": [{"type": "string", "examples": sorted(set(self._types.values()))}, in_full]}

    def _in_full(self, value: object) -> object:
        if isinstance(value, str):
            return {"type": self._types.get(key_of(value), value)}
        if isinstance(value, Mapping) and isinstance(value.get("type"), str):
            return {**value, "type": self._types.get(key_of(value["type"]), value["type"])}
        return value
