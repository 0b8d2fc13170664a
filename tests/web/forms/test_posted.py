"""What a posted form means: empty is left out, unions go by their radio button; rows, boxes, JSON where needed."""

from __future__ import annotations

from typing import Any

import pytest
from tests.corpus.samples import corpus
from tests.web.forms.controls import Pairs, html_of, sent

from tasker.web.forms.exact import MAX_TEXT, Broken, Given, Number, exact, find_broken
from tasker.web.forms.fields import Field, fill, place_faults
from tasker.web.forms.posted import read
from tasker.web.forms.shapes import Shape, shape_of

TYPES = {one.name: shape_of(one.input_schema) for one in corpus()}
REPORT, TEXTS, DEEP, SUMS, HIDDEN = (TYPES[name] for name in ("report", "texts", "deep", "sums", "hidden"))


def typed(shape: Shape, value: Any, **changes: str | None) -> Pairs:
    """Return what a form sends that is filled with a value, with some controls changed; None takes one away."""
    pairs = dict(sent(fill(shape, exact(value))))
    for name, text in changes.items():
        pairs.pop(name, None)
        if text is not None:
            pairs[name] = text
    return list(pairs.items())


def test_numbers_keep_thirty_digits() -> None:
    big = "123456789012345678901234567890"
    pairs = typed(SUMS, {}, **{"/a": big, "/b": " 0.1000 ", "item:/more/0": "", "/more/0": "1E5"})
    assert read(SUMS, pairs) == {"a": Number(big), "b": Number("0.1000"), "more": [Number("1E5")]}


def test_what_is_no_number_stays_a_text_for_the_api_to_refuse() -> None:
    assert read(SUMS, typed(SUMS, {}, **{"/a": "1,000", "/b": "05"})) == {"a": "1,000", "b": "05"}


@pytest.mark.parametrize(
    ("changes", "value"),
    [
        ({}, {"text": "x"}),
        ({"/text": ""}, {}),
        ({"/text": "", "empty:/text": "1"}, {"text": ""}),
        ({"/text": "a\r\nb"}, {"text": "a\nb"}),
        ({"/number_or_none": "7"}, {"text": "x", "number_or_none": Number("7")}),
        ({"null:/number_or_none": "1"}, {"text": "x", "number_or_none": None}),
        ({"/yes": None}, {"text": "x", "yes": False}),
        ({"/either": "false"}, {"text": "x", "either": False}),
        ({"/must": "true"}, {"text": "x", "must": True}),
    ],
)
def test_single_controls(changes: dict[str, str | None], value: Given) -> None:
    assert read(TEXTS, typed(TEXTS, {"text": "x"}, **changes)) == value


def test_only_the_chosen_variant_is_read() -> None:
    given = {"customer": "acme", "deliver": {"via": "bucket", "bucket": "b"}}
    pairs = typed(REPORT, given, **{"/deliver/subject": "not this", "1./deliver/prefix": "p/"})
    assert read(REPORT, pairs) == {"customer": "acme", "deliver": {"via": "bucket", "bucket": "b", "prefix": "p/"}}
    pairs = typed(
        REPORT, given, **{"set:/deliver": "v0", "item:/deliver/to/0": "", "/deliver/to/0": "kim@acme.example"}
    )
    assert read(REPORT, pairs) == {"customer": "acme", "deliver": {"via": "mail", "to": ["kim@acme.example"]}}
    assert read(REPORT, typed(REPORT, given, **{"set:/deliver": ""})) == {"customer": "acme"}


def test_a_group_is_set_or_not() -> None:
    pairs = typed(REPORT, {}, **{"set:/address": "1", "/address/city": "Hamburg"})
    assert read(REPORT, pairs) == {"address": {"city": "Hamburg"}}
    assert read(REPORT, typed(REPORT, {}, **{"/address/city": "Hamburg"})) == {}


def test_rows_are_added_and_removed_without_script() -> None:
    value: Given = {"lines": [{"sku": "A"}, {"sku": "B"}]}
    pairs = sent(fill(REPORT, value))
    assert read(REPORT, pairs, remove="/lines/0") == {"lines": [{"sku": "B"}]}
    longer = fill(REPORT, value, add="/lines")
    assert html_of(longer).count("autofocus") == 1
    assert read(REPORT, sent(longer)) == {"lines": [{"sku": "A"}, {"sku": "B"}, {}]}
    assert read(SUMS, sent(fill(SUMS, {}, add="/more"))) == {"more": [""]}


def test_rows_of_names_and_values() -> None:
    pairs = typed(REPORT, {"labels": {"team": "sales"}}, **{"key:/labels/1": "at", "/labels/1": "home"})
    assert read(REPORT, pairs) == {"labels": {"team": "sales", "at": "home"}}
    assert read(REPORT, pairs, remove="/labels/0") == {"labels": {"at": "home"}}
    assert read(REPORT, sent(fill(REPORT, {}, add="/labels"))) == {"labels": {}}


def test_a_name_given_twice_is_a_fault_at_the_map_and_nothing_is_lost() -> None:
    value = read(REPORT, typed(REPORT, {"labels": {"a": "1"}}, **{"key:/labels/1": "a", "/labels/1": "2"}))
    assert list(find_broken(value)) == [("/labels", "the name 'a' is given twice")]
    assert ("json:/labels", '{"a": "1", "a": "2"}') in sent(fill(REPORT, value))


def test_broken_json_is_a_fault_at_its_field_and_is_kept() -> None:
    value = read(DEEP, typed(DEEP, {}, **{"/any": "{1", "/whole": "", "more:": '{"more": 1'}))
    faults = dict(find_broken(value))
    assert faults["/any"].startswith("expected JSON: ")
    assert ("/any", "{1") in sent(fill(DEEP, value))


def test_members_without_a_field_are_kept() -> None:
    form = fill(REPORT, exact({"customer": "acme", "other": {"x": 1.50}}))
    assert ("more:", '{\r\n  "other": {\r\n    "x": 1.5\r\n  }\r\n}') in sent(form)
    value = read(REPORT, typed(REPORT, {"other": 1}, **{"more:": '{"customer": 1}'}))
    assert list(find_broken(value)) == [("", "`customer` has a field of its own")]


def test_what_the_form_cannot_show_is_said_and_kept() -> None:
    form = fill(REPORT, exact({"since": 7, "lines": "none", "customer": "a\nb"}))
    html = html_of(form)
    assert html.count("keeps it as JSON") == 2
    assert read(REPORT, sent(form)) == exact({"since": 7, "lines": "none", "customer": "a\nb"})


def test_secrets_are_never_in_the_page() -> None:
    form = fill(HIDDEN, {"token": "tsk_s3cr3t", "keys": ["k1s3cr3t"]})
    assert "s3cr3t" not in html_of(form)
    assert [one.text for one in form.fields] == ["", ""]
    assert read(HIDDEN, [("/token", "x"), ("/keys", '["k"]')]) == {"token": "x", "keys": ["k"]}


def ids_of_faults(form: Field) -> dict[str, list[str]]:
    return {one.place.pointer: one.faults for one in form.all_active() if one.faults}


def test_faults_stand_at_their_fields_or_the_nearest_one_above() -> None:
    given = {"address": {"street": "x", "city": "y"}, "lines": [{"sku": "A"}], "labels": {"a/b": "x"},
             "deliver": {"via": "bucket", "bucket": ""}}  # fmt: skip
    form = fill(REPORT, exact(given))
    placed = place_faults(form, [
        ("/address/country", "two letters"), ("/lines/0/quantity", "at most 999"), ("/labels/a~1b", "no"),
        ("/deliver/bucket", "empty"), ("/lines/0/other", "unknown field"), ("", "whole"), ("/nowhere/at/all", "lost"),
    ])  # fmt: skip
    assert [field.place.pointer for field, _ in placed][:4] == [
        "/address/country", "/lines/0/quantity", "/labels/a~1b", "/deliver/bucket",
    ]  # fmt: skip
    assert placed[3][0].id == "f1.2e.-deliver-bucket"
    found = ids_of_faults(form)
    assert found["/lines/0"] == ["other: unknown field"]
    assert found[""] == ["whole", "nowhere/at/all: lost"]
    assert 'aria-invalid="true" aria-describedby="f-address-country-e f-address-country-d"' in html_of(form)


def test_no_two_controls_have_the_same_id() -> None:
    shape = shape_of(
        {"type": "object", "properties": {name: {"type": "string"} for name in ("a-b", "a/b", "a b", "a.b", "ab")}}
    )
    ids = [one.id for one in fill(shape, {}).fields]
    assert len(set(ids)) == len(ids)
    assert all(" " not in one for one in ids)


def test_hostile_names_and_texts_are_escaped() -> None:
    name = '"><script>alert(1)</script>'
    shape = shape_of({"type": "object", "properties": {name: {"type": "string", "description": name, "default": name}}})
    form = fill(shape, {name: "</textarea>\n<b>"})
    place_faults(form, [("", name)])
    assert "<script" not in html_of(form)
    assert read(shape, sent(form)) == {name: "</textarea>\n<b>"}


def test_json_that_is_too_long_for_a_page_is_a_fault() -> None:
    value = read(DEEP, [("/any", f'"{"x" * MAX_TEXT}"')])
    assert [pointer for pointer, _ in find_broken(value)] == ["/any"]


def test_an_empty_row_of_json_is_a_fault() -> None:
    shape = shape_of({"type": "object", "properties": {"p": {"type": "array", "items": {"type": "object"}}}})
    assert read(shape, [("item:/p/0", "")]) == {"p": [Broken("", "expected JSON, got nothing")]}
