"""The questions of a task as forms: made from the JSON Schema of the answer, as the forms of task types are. Pure.

Where the answer, or the one member of it that must be given, is a choice of a few, each choice is a button that sends
the form: an approval is one click. Nothing is validated here: a fault comes back with the pointer of its field.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

import msgspec

from tasker.errors import Fault
from tasker.model.steps import Step
from tasker.rules.steps import is_asked
from tasker.web import texts
from tasker.web.forms.exact import ABSENT, Absent, Broken, Given, find_broken, write
from tasker.web.forms.fields import MANY, Choice, Field, Place, blank, fill, place_faults
from tasker.web.forms.posted import read
from tasker.web.forms.shapes import Kind, Shape, shape_of_value
from tasker.web.step_view import question_of

MOST_ASKS = 5
"""Questions of a task that have a form at a time, the oldest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A question to be shown. id: of its form. default: what counts after its time, "" if that fails the task.

    form: its fields but the decision. decision: the field whose choices are buttons. faults: each with the id of its
    control, its name and the detail.
    """

    id: str
    name: str
    message: str
    asked_at: datetime
    expires_at: datetime | None
    default: str
    form: Field
    decision: Field | None
    choices: tuple[Choice, ...]
    faults: tuple[tuple[str, str, str], ...] = ()

    @property
    def is_decided(self) -> bool:
        """Whether the decision is the whole answer."""
        return self.decision is self.form


@dataclass(frozen=True, slots=True)
class Sent:
    """What was posted to a question. value: ABSENT for nothing; add: the row to be added, see `fill`."""

    number: int
    value: Given
    faults: Sequence[Fault] = ()
    add: str | None = None


def asks_of(steps: Iterable[Step], now: datetime, sent: Sent | None = None) -> list[Ask]:
    """Return the questions that wait, the oldest first. sent: what was posted to one of them."""
    waiting = [step for step in steps if is_asked(step, now)][:MOST_ASKS]
    made = [_ask(step, sent if sent is not None and sent.number == step.number else None) for step in waiting]
    return [ask for ask in made if ask is not None]


def _ask(step: Step, sent: Sent | None) -> Ask | None:
    question = question_of(step)
    if question is None:
        return None
    shape = shape_of_answer(bytes(question.schema), step.name)
    value = first_value(shape) if sent is None else sent.value
    form = fill(shape, value, add=None if sent is None else sent.add, root=place_of(step))
    faults = () if sent is None else tuple(_placed(form, sent.faults))
    decision = decision_of(form)
    return Ask(
        id=f"ask-{step.number}",
        name=step.name,
        message=texts.shown(question.message, 8000).text,
        asked_at=step.started_at,
        expires_at=step.until,
        default=texts.json_line(question.default, 200) if isinstance(question.default, msgspec.Raw) else "",
        form=form if decision is None or decision is form else _without(form, decision),
        decision=decision,
        choices=() if decision is None else _choices(decision),
        faults=faults,
    )


def place_of(step: Step) -> Place:
    """Return the place of the answer: the questions of a task have names of their own."""
    return Place(texts.line(step.name, 80), path=f"q{step.number}")


@lru_cache(maxsize=256)
def shape_of_answer(schema: bytes, name: str) -> Shape:
    """Return the shape of an answer by its schema, a JSON text."""
    return shape_of_value(msgspec.json.decode(schema), name)


def first_value(shape: Shape) -> Given:
    """Return what the form of an answer is filled with at first: what is set as a whole, else nothing."""
    return blank(shape) if shape.kind in (Kind.OBJECT, Kind.LIST, Kind.MAP) else ABSENT


def read_answer(step: Step, pairs: Iterable[tuple[str, str]], *, remove: str | None = None) -> Given:
    """Return the answer that a posted form stands for. remove: the name of a row that is left out."""
    question = question_of(step)
    if question is None:
        return ABSENT
    return read(shape_of_answer(bytes(question.schema), step.name), pairs, remove=remove, root=place_of(step))


def read_moment(text: str) -> datetime | None:
    """Return the time that a form carries of its question; None if there is none, or it is no time."""
    try:
        return msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return None


def faults_of(value: Given) -> list[Fault]:
    """Return why an answer cannot be sent at all: nothing was given, or what was typed is no JSON."""
    if isinstance(value, Absent):
        return [Fault("/value", "expected an answer")]
    return [Fault(f"/value{pointer}", detail) for pointer, detail in find_broken(value)]


def text_of_answer(value: Given) -> bytes:
    """Return the JSON text of an answer; nothing in it may be broken."""
    assert not isinstance(value, Absent | Broken)
    return write(value).encode("utf-8", "surrogatepass")


def decision_of(form: Field) -> Field | None:
    """Return the field whose choices are buttons: the whole answer, or the one such member that must be given."""
    if _is_decision(form):
        return form
    if form.kind != "object" or form.choices:
        return None
    found = [one for one in form.fields if one.place.is_required and _is_decision(one)]
    return found[0] if len(found) == 1 else None


def _is_decision(one: Field) -> bool:
    shape = one.shape
    is_short = all(len(choice.label) <= 40 for choice in one.choices)
    return (
        shape.kind in (Kind.BOOL, Kind.CHOICE)
        and not (one.is_json or shape.is_nullable or shape.is_secret)
        and len(shape.options) <= MANY
        and is_short
    )


def _choices(decision: Field) -> tuple[Choice, ...]:
    """Return the buttons: yes and no, or the options."""
    if decision.shape.kind is Kind.BOOL:
        return (Choice("true", "Yes"), Choice("false", "No"))
    return tuple(choice for choice in decision.choices if choice.value != "")


def _without(form: Field, decision: Field) -> Field:
    return replace(form, fields=[one for one in form.fields if one is not decision])


def _placed(form: Field, faults: Iterable[Fault]) -> Iterable[tuple[str, str, str]]:
    """Put faults at their fields; yield for each the id of the control, its name and the detail."""
    for fault in faults:
        pointer = fault.pointer.removeprefix("/value")
        [(field, detail)] = place_faults(form, [(pointer, fault.detail)])
        yield field.id, pointer[1:].replace("/", ".") or field.place.label, detail
