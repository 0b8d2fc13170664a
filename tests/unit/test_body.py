"""The one reader of request bodies: what it takes, and that every fault is found at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import UNSET, Meta, Struct, UnsetType

from tasker.errors import Invalid, Malformed
from tasker.requests.body import Moment, array, by, duration, read_body, read_members
from tasker.validation.durations import Duration
from tasker.validation.faults import Faults


class Inner(Struct, frozen=True, kw_only=True):
    size: Annotated[int, Meta(ge=1)]
    names: Annotated[list[str], array(str, 2, "names")] = []


class Form(Struct, frozen=True, kw_only=True):
    name: str
    at: Moment | None = None
    wait: Annotated[Duration | None, duration(timedelta(hours=1))] = None
    inner: Inner | None = None
    loud: Annotated[str, by(str.upper)] | None = None
    flag: bool = False


class Patch(Struct, frozen=True, kw_only=True):
    name: str | UnsetType = UNSET
    limit: Annotated[int | None, Meta(description="null for none")] | UnsetType = UNSET
    note: str | None = None


def read(**members: Any) -> Form:
    return read_body(msgspec.json.encode(members), Form)


def faults(body: bytes) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        read_body(body, Form)
    return {fault.pointer: fault.detail for fault in caught.value.faults}


def test_a_body_becomes_its_form() -> None:
    form = read(
        name="n", at="2026-01-01T02:00:00+02:00", wait="PT1M", inner={"size": 1, "names": ["a"]}, loud="x", flag=True
    )
    assert form == Form(
        name="n",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        wait=timedelta(minutes=1),  # type: ignore[arg-type]
        inner=Inner(size=1, names=("a",)),  # type: ignore[arg-type]
        loud="X",
        flag=True,
    )


def test_null_is_the_same_as_left_out() -> None:
    assert read(name="n", at=None, wait=None, inner=None, loud=None, flag=None) == Form(name="n")
    assert faults(b'{"name":null}') == {"/name": "`name` is missing"}


def test_every_fault_has_its_place() -> None:
    found = faults(b'{"flag":1,"wait":-1,"inner":{"size":0,"names":[1,"a"],"sise":1},"nam":1,"a/b":1}')
    assert found == {
        "/flag": "expected boolean, got integer",
        "/wait": "expected 0 to 3,600 seconds",
        "/inner/size": "expected integer >= 1",
        "/inner/names/0": "expected string, got integer",
        "/inner/sise": "unknown field; did you mean `size`?",
        "/nam": "unknown field; did you mean `name`?",
        "/a~1b": "unknown field",
        "/name": "`name` is missing",
    }
    assert faults(b'{"name":"n","inner":[]}') == {"/inner": "expected object, got array"}
    assert faults(b"[]") == {"": "expected an object, got array"}
    with pytest.raises(Malformed):
        read_body(b"{", Form)


def test_in_a_change_null_resets_what_may_be_null() -> None:
    found = Faults()
    assert read_members({"limit": None, "note": None}, Patch, found, resets={"note": "-"}) == {
        "limit": None,
        "note": "-",
    }
    found.check()
    assert read_members({"name": None}, Patch, found) == {}
    assert [fault.detail for fault in found.found] == ["expected string, got null"]
