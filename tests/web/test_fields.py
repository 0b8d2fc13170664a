"""Forms of settings: the body that a form stands for, and the faults beside their fields."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasker.errors import Fault
from tasker.web.fields import Field, controls, others, read_body
from tasker.web.page import Form

CASES: list[tuple[Field, list[str], Any]] = [
    (Field("a"), [""], {}),
    (Field("a", empty="null"), [""], {"a": None}),
    (Field("a", empty="null"), [], {"a": None}),
    (Field("a"), ["null"], {"a": "null"}),
    (Field("a", "number"), ["90,000"], {"a": 90_000}),
    (Field("a", "number"), [" 1.50 "], {"a": 1.5}),
    (Field("a", "number"), ["01"], {"a": "01"}),
    (Field("a", "number"), ["many"], {"a": "many"}),
    (Field("a", "number"), ["1,00"], {"a": "1,00"}),
    (Field("a", "length"), ["60"], {"a": 60}),
    (Field("a", "length"), ["PT5M"], {"a": "PT5M"}),
    (Field("a", "flag"), ["on"], {"a": True}),
    (Field("a", "flag"), [], {"a": False}),
    (Field("a", "choices"), ["x", "y"], {"a": ["x", "y"]}),
    (Field("a", "choices"), [], {}),
    (Field("a", "choices", empty="null"), [], {"a": None}),
    (Field("a", "json"), ['{"b": [1, 2.50]}'], {"a": {"b": [1, 2.5]}}),
    (Field("a", "json"), ["{"], {"a": "{"}),
    (Field("a", "moment"), ["2026-01-02T03:04"], {"a": "2026-01-02T03:04Z"}),
    (Field("a", "moment"), ["2026-01-02T03:04:05"], {"a": "2026-01-02T03:04:05Z"}),
    (Field("a", "moment"), ["2026-01-02T03:04:05+01:00"], {"a": "2026-01-02T03:04:05+01:00"}),
    (Field("a/b", "number"), ["1"], {"a": {"b": 1}}),
    (Field("a/b", "number"), [""], {"a": None}),
]


@pytest.mark.parametrize(("field", "values", "body"), CASES)
def test_the_body_that_a_form_stands_for(field: Field, values: list[str], body: Any) -> None:
    form = Form(tuple((field.pointer, value) for value in values))
    assert json.loads(read_body([field], form)) == body


def test_numbers_keep_their_digits() -> None:
    form = Form((("/a", "0.1000000000000000000001"),))
    assert read_body([Field("a", "number")], form) == b'{"a":0.1000000000000000000001}'


def test_faults_stand_beside_their_fields() -> None:
    fields = (Field("task", "json"), Field("name"))
    faults = [Fault("/task/params/0", "expected a number"), Fault("/tas", "unknown"), Fault("", "too much")]
    found = controls(fields, Form((("/name", "x"),)), faults)
    assert [(one.value, one.error) for one in found] == [("", "expected a number"), ("x", "")]
    assert others(fields, faults) == faults[1:]
