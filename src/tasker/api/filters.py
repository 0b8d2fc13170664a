"""The filter of a list of tasks, as its query parameters."""

from __future__ import annotations

from typing import Any

from tasker.api.calls import Parameter, choices_parameter, moment, text_of, text_parameter, texts_parameter, uuid_of
from tasker.model import Status, TaskFilter

_ID = {"type": "string", "format": "uuid"}
_TIME = {"type": "string", "format": "date-time"}
MAX_TEXT = 200
"""Limit of the characters that are looked for."""
FILTER_PARAMETERS = (
    choices_parameter("status", "Only tasks of these statuses; repeated or separated by commas.", Status, Status),
    texts_parameter("type", "Only tasks of these types; repeated or separated by commas."),
    texts_parameter("queue", "Only tasks of these queues; repeated or separated by commas."),
    text_parameter("tag", "Only tasks with this tag."),
    Parameter("parent", "Only children of this task.", _ID, uuid_of),
    Parameter("schedule_id", "Only tasks that this schedule submitted.", _ID, uuid_of),
    Parameter("created_after", "Only tasks submitted after this time.", _TIME, moment),
    Parameter("created_before", "Only tasks submitted before this time.", _TIME, moment),
    Parameter("ended_after", "Only tasks that ended after this time.", _TIME, moment),
    Parameter("ended_before", "Only tasks submitted and ended before this time.", _TIME, moment),
    text_parameter("group", "Only tasks of this group."),
    text_parameter("error", "Only failed tasks of this failure group, an id of `GET /failure`."),
    Parameter(
        "q",
        "Only tasks with this text in their params or their error; A to Z match a to z. Longer ones than 64 KiB are not"
        " searched.",
        {"type": "string", "minLength": 1, "maxLength": MAX_TEXT},
        text_of(MAX_TEXT),
    ),
    text_parameter("owner", "Only tasks of this owner; without an admin's key, only one's own."),
    Parameter("bulk", "Only tasks that this bulk action has cancelled or retried.", _ID, uuid_of),
)
_FIELDS = {"type": "types", "queue": "queues", "q": "text"}


_NAMES = {field: name for name, field in _FIELDS.items()}


def filter_of(query: dict[str, Any]) -> TaskFilter:
    """Return the filter of a query that has only parameters of a filter."""
    return TaskFilter(**{_FIELDS.get(name, name): value for name, value in query.items()})


def query_of(members: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a filter by the names of their parameters."""
    return {_NAMES.get(field, field): value for field, value in members.items()}
