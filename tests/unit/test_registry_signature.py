"""Which functions can be task types, and what their signatures and docstrings become."""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Never, NoReturn, TypedDict
from uuid import UUID

import pydantic
import pydantic.dataclasses
import pytest
from jsonschema import Draft202012Validator
from msgspec import Meta, Struct
from pydantic import PositiveInt
from tests.values import bind

from tasker.errors import Invalid, RegistrationError
from tasker.tasktypes.context import Context
from tasker.tasktypes.registry import Registry, TaskType, task


def register(function: Callable[..., Any]) -> TaskType:
    task_type = Registry().add(function)
    Draft202012Validator.check_schema(task_type.input_schema)
    Draft202012Validator.check_schema(task_type.output_schema)
    return task_type


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    """A place."""

    x: int
    y: int = 0


@dataclass
class Tree:
    value: int
    children: list[Tree]


class Cat(Struct, tag="cat"):
    lives: Annotated[int, Meta(ge=1, le=9)]


class Dog(Struct, tag="dog", forbid_unknown_fields=True):
    name: str


class Options(TypedDict, total=False):
    fast: bool


class Opaque:
    pass


class Item(pydantic.BaseModel):
    """An article."""

    sku: str = pydantic.Field(min_length=3, alias="SKU")
    tree: list[Item] = []


@pydantic.dataclasses.dataclass
class Place:
    x: int = pydantic.Field(gt=0)


_MOMENT = datetime(2020, 1, 1, tzinfo=UTC)


# Schemas


def test_the_schema_is_that_of_named_params() -> None:
    def render(prompt: str, size: int = 3, *more: float, system: str | None = None, flag: bool) -> list[str]: ...

    task_type = register(render)
    assert task_type.input_schema == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "prompt": {"type": "string"},
            "size": {"type": "integer", "default": 3},
            "more": {"type": "array", "items": {"type": "number"}, "default": []},
            "system": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            "flag": {"type": "boolean"},
        },
        "required": ["prompt", "flag"],
        "additionalProperties": False,
    }
    assert task_type.output_schema == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "array",
        "items": {"type": "string"},
    }
    assert (task_type.positional, task_type.rest) == (("prompt", "size"), "more")


def test_a_function_may_take_and_return_nothing() -> None:
    async def tick() -> None: ...

    task_type = register(tick)
    assert task_type.input_schema["properties"] == {}
    assert task_type.output_schema["type"] == "null"
    assert task_type.is_async
    assert bind(task_type, []) == bind(task_type, {}) == ((), {})
    assert task_type.example == {}


def test_without_a_return_annotation_anything_may_come() -> None:
    def anything(): ...

    assert register(anything).output_schema == {"$schema": "https://json-schema.org/draft/2020-12/schema"}


@pytest.mark.parametrize(
    ("type_", "sent", "bound"),
    [
        (int, 10**999, 10**999),
        (float, 1, 1.0),
        (float, 1.5, 1.5),
        (int | float, 10**999, 10**999),
        (str, "ä\n", "ä\n"),
        (bool, True, True),
        (None, None, None),
        (int | None, None, None),
        (list, [1, "a"], [1, "a"]),
        (list[int], [1], [1]),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (dict[int, str], {"1": "a"}, {1: "a"}),
        (tuple[int, str], [1, "a"], (1, "a")),
        (tuple[int, ...], [1, 2], (1, 2)),
        (set[int], [1, 1], {1}),
        (Literal["a", 1, None], 1, 1),
        (Color, "red", Color.RED),
        (datetime, "2020-01-01T00:00:00Z", datetime(2020, 1, 1, tzinfo=UTC)),
        (timedelta, "PT1S", timedelta(seconds=1)),
        (UUID, "12345678-1234-5678-1234-567812345678", UUID("12345678-1234-5678-1234-567812345678")),
        (bytes, "eA==", b"x"),
        (Point, {"x": 1}, Point(1, 0)),
        (Tree, {"value": 1, "children": [{"value": 2, "children": []}]}, Tree(1, [Tree(2, [])])),
        (Options, {"fast": True}, {"fast": True}),
        (Cat | Dog, {"type": "dog", "name": "Rex"}, Dog("Rex")),
        (Annotated[int, Meta(ge=1)], 1, 1),
        (Any, {"a": [None]}, {"a": [None]}),
        (object, {"a": [1.5]}, {"a": [1.5]}),
        (dict[str, object], {"a": [1.5]}, {"a": [1.5]}),
        (Decimal, "1.10", Decimal("1.10")),
        (Decimal, 1.5, Decimal("1.5")),
        (Decimal | None, None, None),
        (list[Decimal], [1, "2.50"], [Decimal(1), Decimal("2.50")]),
        (Decimal | int, 10**30, 10**30),
        (Path, "/srv", Path("/srv")),
        (Path | None, None, None),
        (list[Path], ["a", "b"], [Path("a"), Path("b")]),
        (Annotated[datetime, Meta(tz=False)], "2020-01-01T00:00:00", datetime(2020, 1, 1)),  # noqa: DTZ001
        (dict[str, list[datetime | None]], {"a": ["2020-01-01T00:00:00Z", None]}, {"a": [_MOMENT, None]}),
        (Item, {"SKU": "abc"}, Item(SKU="abc")),
        (Item | None, None, None),
        (list[Item], [{"SKU": "abc"}], [Item(SKU="abc")]),
        (Place, {"x": 1}, Place(1)),
        (PositiveInt, 1, 1),
        (Annotated[str, pydantic.StringConstraints(strip_whitespace=True)], " a ", "a"),
    ],
    ids=str,
)
def test_types(type_: Any, sent: Any, bound: Any) -> None:
    def function(value): ...

    function.__annotations__ = {"value": type_}
    task_type = register(function)
    task_type.check([sent])
    assert bind(task_type, [sent]) == bind(task_type, {"value": sent}) == ((bound,), {})
    Draft202012Validator(task_type.input_schema).validate({"value": sent})


class Stamped(Struct):
    at: datetime
    until: list[datetime | None] = []
    local: Annotated[datetime, Meta(tz=False)] | None = None


def test_a_moment_has_a_zone_in_every_schema() -> None:
    def function(
        at: datetime, all: dict[str, tuple[datetime, int]], stamped: Stamped, free: Annotated[datetime, Meta(tz=False)]
    ) -> list[datetime]: ...

    task_type = register(function)
    moment = {"type": "string", "format": "date-time"}
    schema = task_type.input_schema
    assert schema["properties"]["at"] == moment
    assert schema["properties"]["all"]["additionalProperties"]["prefixItems"] == [moment, {"type": "integer"}]
    assert schema["properties"]["free"] == {"type": "string"}
    fields = schema["$defs"]["Stamped"]["properties"]
    assert fields["at"] == moment
    assert fields["until"]["items"]["anyOf"] == [moment, {"type": "null"}]
    assert {"type": "string"} in fields["local"]["anyOf"]
    assert task_type.output_schema["items"] == moment


def test_a_decimal_is_taken_as_a_number_too_and_given_as_text() -> None:
    def function(amount: Decimal, others: list[Decimal | None] = []) -> Decimal: ...  # noqa: B006

    task_type = register(function)
    taken = {"type": ["string", "number"], "format": "decimal"}
    assert task_type.input_schema["properties"]["amount"] == taken
    assert task_type.input_schema["properties"]["others"]["items"] == {"anyOf": [taken, {"type": "null"}]}
    assert task_type.output_schema["type"] == "string"
    assert task_type.example == {"amount": "1.50", "others": []}


def test_the_schema_of_a_model_is_pydantics() -> None:
    def function(item: Item, *more: Item, place: Place = Place(1)) -> Item: ...  # noqa: B008

    task_type = register(function)
    properties = task_type.input_schema["properties"]
    assert properties["item"]["$ref"] == "#/$defs/Item"
    assert properties["more"]["items"]["$ref"] == "#/$defs/Item"
    assert properties["place"]["default"] == {"x": 1}
    assert properties["place"]["properties"]["x"] == {"exclusiveMinimum": 0, "title": "X", "type": "integer"}
    definition = task_type.input_schema["$defs"]["Item"]
    assert definition["properties"]["SKU"]["minLength"] == 3
    assert definition["properties"]["tree"]["items"] == {"$ref": "#/$defs/Item"}
    assert task_type.output_schema["$ref"] == "#/$defs/Item"
    assert bind(task_type, [{"SKU": "abc"}, {"SKU": "def"}]) == (
        (Item(SKU="abc"), Item(SKU="def")),
        {"place": Place(1)},
    )


def test_models_of_one_name_are_kept_apart() -> None:
    def other() -> type[Any]:
        class Item(pydantic.BaseModel):
            size: int
            inner: list[Item] = []

        return Item

    def function(one, two, three): ...

    function.__annotations__ = {"one": Item, "two": other(), "three": list[Item]}
    schema = register(function).input_schema
    assert schema["properties"]["one"]["$ref"] == schema["properties"]["three"]["items"]["$ref"] == "#/$defs/Item"
    assert schema["properties"]["two"]["$ref"] == "#/$defs/Item_2"
    assert schema["$defs"]["Item_2"]["properties"]["inner"]["items"] == {"$ref": "#/$defs/Item_2"}


def test_a_secret_of_pydantics_is_one_of_ours() -> None:
    def function(token: pydantic.SecretStr, name: str = ""): ...

    task_type = register(function)
    assert task_type.secrets is not None
    assert task_type.secrets.names == {"token"}


@pytest.mark.parametrize("hint", [NoReturn, Never, None])
def test_what_never_returns_has_no_result(hint: Any) -> None:
    def function(): ...

    function.__annotations__ = {"return": hint}
    assert register(function).output_schema["type"] == "null"


@pytest.mark.parametrize("hint", [object, Any])
def test_what_returns_anything_has_any_result(hint: Any) -> None:
    def function(): ...

    function.__annotations__ = {"return": hint}
    assert register(function).output_schema == {"$schema": "https://json-schema.org/draft/2020-12/schema"}


def test_constraints_and_definitions_are_in_the_schema() -> None:
    def function(lives: Annotated[int, Meta(ge=1, description="How many")], pet: Cat | Dog, at: Point = Point(1)): ...  # noqa: B008

    schema = register(function).input_schema
    assert schema["properties"]["lives"] == {"type": "integer", "minimum": 1, "description": "How many"}
    assert schema["properties"]["at"] == {"$ref": "#/$defs/Point", "default": {"x": 1, "y": 0}}
    assert set(schema["$defs"]) == {"Cat", "Dog", "Point"}


def test_a_default_without_json_is_left_out_of_the_schema_and_still_holds() -> None:
    def function(limit: float = float("inf")): ...

    task_type = register(function)
    assert task_type.input_schema["properties"]["limit"] == {"type": "number"}
    assert bind(task_type, {}) == ((float("inf"),), {})


def test_a_default_is_handed_over_itself() -> None:
    nothing: list[int] = []

    def function(a: list[int] = nothing, *, b: list[int] = nothing): ...

    (a,), named = bind(register(function), [])
    assert a is nothing
    assert named["b"] is nothing


def test_parameters_may_have_any_name() -> None:
    def function(self: int, _x: int, p1: int, p0: int, __struct_fields__: int, *, uniqueItems: int): ...

    names = ["self", "_x", "p1", "p0", "__struct_fields__", "uniqueItems"]
    params = dict(zip(names, range(6), strict=True))
    task_type = register(function)
    assert list(task_type.input_schema["properties"]) == names
    assert bind(task_type, params) == ((0, 1, 2, 3, 4), {"uniqueItems": 5})


def test_a_wrapped_function_has_the_signature_of_the_inner_one() -> None:
    def inner(a: int) -> int:
        return a

    @functools.wraps(inner)
    def outer(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    task_type = register(outer)
    assert task_type.function is outer
    assert bind(task_type, [1]) == ((1,), {})


def test_a_wrapper_of_what_is_no_function_is_named_by_its_own_place() -> None:
    @functools.wraps(Opaque)
    def outer(*args: Any, **kwargs: Any) -> Any: ...

    assert re.search(r"test_registry_signature\.py:\d+$", Registry().add(outer).source)


# The Context


def call(task_type: TaskType, params: Any) -> Any:
    args, kwargs = bind(task_type, params)
    assert task_type.context_parameter is not None
    return task_type.function(*args, **kwargs, **{task_type.context_parameter: "CONTEXT"})


def test_the_context_is_no_param_wherever_it_stands() -> None:
    def first(context: Context, a: int, b: int = 2, *, c: int = 3) -> Any:
        return context, a, b, c

    def middle(a: int, context: Context, b: int = 2, *, c: int = 3) -> Any:
        return context, a, b, c

    def last(a: int, b: int = 2, *, c: int = 3, context: Context) -> Any:
        return context, a, b, c

    for function in (first, middle, last):
        task_type = register(function)
        assert list(task_type.input_schema["properties"]) == ["a", "b", "c"]
        assert task_type.positional == ("a", "b")
        assert call(task_type, [1]) == call(task_type, {"a": 1}) == ("CONTEXT", 1, 2, 3)
        assert call(task_type, [1, 5]) == call(task_type, {"b": 5, "a": 1}) == ("CONTEXT", 1, 5, 3)
        with pytest.raises(Invalid):
            task_type.check({"a": 1, "context": {}})


def test_the_context_behind_rest() -> None:
    def function(*values: int, context: Context) -> Any:
        return context, values

    assert call(register(function), [1, 2]) == ("CONTEXT", (1, 2))


def no_context_1(context: Context | None): ...
def no_context_2(context: list[Context]): ...
def no_context_3(context: Context, other: Context): ...
def no_context_4(context: Context, /): ...
def no_context_5(*contexts: Context): ...
def no_context_6(context: Context, *values: int): ...


# What cannot be a task type


def no_names(**values: int): ...
def no_annotation(a: int, b): ...
def no_annotation_rest(*values): ...
def no_name_known(a: Missing): ...  # type: ignore[name-defined]  # noqa: F821
def no_opaque(a: Opaque): ...
def no_opaque_inside(a: list[Opaque | None]): ...
def no_opaque_result() -> Opaque: ...
def no_ambiguous(a: str | datetime): ...
def no_default(a: int = None): ...  # type: ignore[assignment]  # noqa: RUF013
def no_default_sentinel(a: int | None = object()): ...  # type: ignore[assignment]
def no_generator(a: int) -> Iterator[int]:
    yield a


async def no_async_generator(a: int) -> AsyncIterator[int]:
    yield a


class Holder:
    def no_method(self, a: int) -> int: ...


class Mixed(Struct):
    item: Item


def no_mixed(a: Mixed): ...
def no_mixed_result() -> list[Mixed]: ...
def no_meta(a: Annotated[list[Item], Meta(max_length=3)]): ...


class Touchy(pydantic.BaseModel):
    @pydantic.model_validator(mode="before")
    @classmethod
    def _fail(cls, value: Any) -> Any:
        raise TypeError("the author's own")


def no_default_touchy(a: Touchy = "x"): ...  # type: ignore[assignment]
def no_default_model(a: Item = Item(SKU="abc"), b: PositiveInt = 0): ...  # noqa: B008


no_lambda = lambda a: a  # noqa: E731


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (no_context_1, "parameter 'context': the Context is always there; annotate it as plain `Context`"),
        (no_context_2, "annotate it as plain `Context`"),
        (no_context_3, "'context' and 'other' are both a Context"),
        (no_context_4, "the Context is passed by name"),
        (no_context_5, "the Context is passed by name"),
        (no_context_6, "put it behind: `*values, context: Context`"),
        (no_names, "**values takes any name"),
        (no_annotation, "parameter 'b' has no annotation; write for example `b: str`"),
        (no_annotation_rest, "parameter 'values' has no annotation"),
        (no_name_known, "name 'Missing' is not defined"),
        (no_opaque, "parameter 'a': values of `Opaque` cannot be written as JSON; use int"),
        (no_opaque_inside, "parameter 'a': values of"),
        (no_opaque_result, "its return type: values of `Opaque`"),
        (no_ambiguous, "parameter 'a': Type unions may not contain more than one str-like type"),
        (no_default, "the default of 'a' does not fit its annotation: expected integer, got null"),
        (no_default_sentinel, "the default of 'a' does not fit"),
        (no_generator, "a generator cannot be a task"),
        (no_async_generator, "a generator cannot be a task"),
        (no_lambda, "a lambda cannot be a task"),
        (Holder.no_method, "a method cannot be a task; write a function that makes the object and calls it"),
        (no_mixed, "parameter 'a': Unable to generate pydantic-core schema for"),
        (no_mixed_result, "its return type: Unable to generate pydantic-core schema for"),
        (no_meta, "parameter 'a': pydantic ignores msgspec.Meta; use pydantic.Field"),
        (no_default_touchy, "the default of 'a' does not fit its annotation: the author's own"),
        (no_default_model, "the default of 'b' does not fit its annotation: expected greater than 0"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_what_cannot_be_a_task_is_refused_with_its_place(function: Callable[..., Any], says: str) -> None:
    with pytest.raises(RegistrationError, match=re.escape(says)) as caught:
        Registry().add(function)
    line = function.__code__.co_firstlineno
    assert re.match(rf".*test_registry_signature\.py:{line}: {re.escape(function.__qualname__)}: ", str(caught.value))


class Caller:
    async def __call__(self, a: int) -> int:
        return a


@pytest.mark.parametrize(
    "thing",
    [functools.partial(no_opaque, 1), Caller(), Caller().__call__, int, functools.cache(no_opaque), staticmethod(len)],
)
def test_what_is_no_function_is_refused_with_what_to_do(thing: Any) -> None:
    for register_it in (task, Registry().add):
        with pytest.raises(
            RegistrationError, match=r"only a function can be a task; write a `def` or `async def` that"
        ):
            register_it(thing)


# Docstrings


def google() -> None:
    """Do the thing
    over two lines.

    Then much more.

    Args:
        width: In pixels,
            not points.
        more: Others.
    """


def numpy() -> None:
    """Do the thing over two lines.

    Parameters
    ----------
    width : int
        In pixels, not points.
    *more
        Others.
    """


def sphinx() -> None:
    """Do the thing over two lines.

    :param width: In pixels, not points.
    :param more: Others.
    """


@pytest.mark.parametrize("documented", [google, numpy, sphinx])
def test_docstrings_describe_type_and_params(documented: Callable[..., Any]) -> None:
    def function(width: int, *more: int) -> None: ...

    function.__doc__ = documented.__doc__
    task_type = register(function)
    assert task_type.description == "Do the thing over two lines."
    properties = task_type.input_schema["properties"]
    assert properties["width"]["description"] == "In pixels, not points."
    assert properties["more"]["description"] == "Others."


@pytest.mark.parametrize(
    ("doc", "description"),
    [(None, ""), ("", ""), ("One line: a, b", "One line: a, b"), ("Args:\n    odd", ""), (":param\n:x:", "")],
)
def test_odd_docstrings_do_no_harm(doc: str | None, description: str) -> None:
    def function(width: int) -> None: ...

    function.__doc__ = doc
    assert register(function).description.startswith(description)


def test_the_own_description_of_a_param_wins() -> None:
    def function(width: Annotated[int, Meta(description="Own")]) -> None:
        """Do.

        Args:
            width: Docstring.
        """

    assert register(function).input_schema["properties"]["width"]["description"] == "Own"


# Examples


def test_an_example_is_made_from_defaults_and_types() -> None:
    def function(
        text: str, count: Annotated[int, Meta(ge=5)], color: Color, sizes: list[float], *more: int, deep: bool = False,
        mode: Literal["fast", "slow"], when: Annotated[str, Meta(examples=["noon"])], limit: int | None = None,
    ): ...  # fmt: skip

    assert register(function).example == {
        "text": "text", "count": 5, "color": "blue", "sizes": [1.5], "more": [], "deep": False, "mode": "fast",
        "when": "noon", "limit": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "type_", [Decimal, datetime, date, Annotated[time, Meta(tz=True)], timedelta, Path, list[Decimal | None]], ids=str
)
def test_text_of_a_format_has_an_example_that_fits(type_: Any) -> None:
    def function(value): ...

    function.__annotations__ = {"value": type_}
    assert register(function).example is not None


@pytest.mark.parametrize(
    "type_",
    [tuple[int, str], Annotated[str, Meta(pattern="^x+y$")], UUID, Point, Annotated[list[int], Meta(min_length=3)]],
)
def test_where_an_example_is_not_simple_there_is_none(type_: Any) -> None:
    def function(value): ...

    function.__annotations__ = {"value": type_}
    assert register(function).example is None
