"""What the page of a task shows, as values: a sentence, what is wrong or why it waits, facts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec

from tasker.errors import PROBLEMS
from tasker.model import Attempt, Status, Task
from tasker.model.keys import Caller
from tasker.model.queues import MOST_BEFORE
from tasker.model.steps import Step
from tasker.model.usage import SUMMED, read_usage
from tasker.web import texts, times
from tasker.web.asks import Ask, Sent, asks_of
from tasker.web.attempts import MOST_SHOWN, Row, rows_of, run_time, say_error, tries_of, used_tries
from tasker.web.charts import Span, Try
from tasker.web.children import Children, children_of, open_of, total_of
from tasker.web.groups import address_of
from tasker.web.step_view import MOST_STEPS, Running, names_of, parked_words, spans_of
from tasker.web.step_view import Row as StepRow
from tasker.web.step_view import rows_of as steps_of

_RETRYABLE = frozenset({Status.FAILED, Status.CANCELLED})
_ICONS: Mapping[str, tuple[str, str]] = {
    "retrying": ("retry", "retrying"),
    "scheduled": ("scheduled", "scheduled"),
    "snoozed": ("scheduled", "snoozed"),
    "paused": ("pause", "pending"),
    "sleeping": ("scheduled", "sleeps"),
    "waiting_for_children": ("parked", "waits for children"),
    "input_required": ("ask", "waits for a person"),
}
_NEXT = {
    "sleeping": "Goes on",
    "input_required": "Goes on at the latest",
    "waiting_for_children": "Goes on at the latest",
}
_NO_RESULT = {
    Status.PENDING: "Not yet: it has not started.",
    Status.RUNNING: "Not yet: it runs.",
    Status.FAILED: "None: the task failed.",
    Status.CANCELLED: "None: the task was cancelled.",
}


class Fact(NamedTuple):
    """A fact, with the page that it leads to; at: a time in place of a text."""

    name: str
    text: str = ""
    href: str | None = None
    at: datetime | None = None


class Trouble(NamedTuple):
    """Why a task failed. traceback: for those who may see it. attempt: that it is of."""

    title: str
    error: str
    advice: str
    traceback: texts.Shown | None
    attempt: int


class Why(NamedTuple):
    """Why a pending task waits, and the page to see about it. resume: the paused queue that the caller may resume."""

    icon: str
    title: str
    text: str
    links: tuple[tuple[str, str], ...] = ()
    resume: str | None = None


class TaskView(NamedTuple):
    """Everything that the page shows at a time, but its output and its log. deeds: what the caller may do now."""

    now: datetime
    id: str
    short: str
    type: str
    status: str
    icon: str
    word: str
    sentence: str
    deeds: frozenset[Literal["retry", "cancel", "delete", "edit"]]
    trouble: Trouble | None
    why: Why | None
    tries: list[Try]
    rows: list[Row]
    left_out: int
    progress: int | None
    progress_note: str
    input: texts.Shown
    result: texts.Shown | None
    no_result: str
    facts: list[Fact]
    usage: list[Fact]
    tags: list[str]
    metadata: str
    spans: list[Span]
    steps: list[StepRow]
    has_more_steps: bool
    step_names: list[str]
    asks: list[Ask]
    may_answer: bool
    has_back_offs: bool
    children: Children | None
    has_open_children: bool
    family: tuple[Fact, ...]


class Sources(NamedTuple):
    """What the page is made of: the task as `Waiting.explain` returned it, its attempts, steps and first children.

    running: the steps that run. ends: see `tries_of`. sent: what was posted to one of its questions.
    """

    task: Task
    attempts: Sequence[Attempt]
    ends: Mapping[int, datetime]
    steps: Sequence[Step] = ()
    running: Sequence[Running] = ()
    children: Sequence[Task] = ()
    sent: Sent | None = None


def view_of(caller: Caller, loaded: Sources, now: datetime) -> TaskView:
    """Return what the page shows."""
    task, attempts = loaded.task, loaded.attempts
    icon, word = _ICONS.get(str(task.reason), (task.status.value, task.status.value))
    if task.status is not Status.PENDING:
        icon = word = task.status.value
    latest = attempts[-MOST_SHOWN:]
    parked = parked_words(task, latest, loaded.steps, now)
    tries = tries_of(task, attempts, loaded.ends, now, parked)[-MOST_SHOWN:]
    shown = [one for one in latest if any(one.attempt == other.number for other in tries)]
    task_id = str(task.task_id)
    known = {step.key for step in loaded.steps}
    running = [one for one in loaded.running if one.key not in known][:MOST_STEPS]
    latest_steps = loaded.steps[-MOST_STEPS:]
    is_asking = not task.status.is_terminal
    return TaskView(
        now=now,
        id=task_id,
        short=task_id[-12:],
        type=task.type,
        status=task.status.value,
        icon=icon,
        word=word,
        sentence=say(task, attempts, now),
        deeds=deeds_of(caller, task),
        trouble=_trouble(caller, task, attempts),
        why=why_of(caller, task, now),
        tries=tries,
        rows=rows_of(shown, tries, now),
        left_out=len(attempts) - len(shown),
        progress=_percent(task),
        progress_note=_progress_note(task),
        input=texts.pretty_json(task.params),
        result=texts.pretty_json(task.result) if task.status is Status.COMPLETED else None,
        no_result=_no_result(task),
        facts=facts_of(task, attempts, now),
        usage=_usage(task),
        tags=task.tags,
        metadata=texts.json_line(task.metadata, 2000),
        spans=spans_of(task, loaded.steps, running, now),
        steps=steps_of(task, latest_steps, running, now),
        has_more_steps=len(loaded.steps) > len(latest_steps),
        step_names=names_of(loaded.steps),
        asks=asks_of(loaded.steps, now, loaded.sent) if is_asking else [],
        may_answer=caller.may("control"),
        has_back_offs=any(one.backed_off and not one.parked for one in tries),
        children=children_of(task, loaded.children, now),
        has_open_children=open_of(task.children) > 0,
        family=_family(task),
    )


def _family(task: Task) -> tuple[Fact, ...]:
    """Return the links to the parent, and to the tree of the family."""
    if task.parent_id is None:
        return ()
    found = [Fact("child of", str(task.parent_id)[-12:], f"task/{task.parent_id}")]
    if task.root_id not in (None, task.parent_id):
        found.append(Fact("root", str(task.root_id)[-12:], f"task/{task.root_id}"))
    return tuple(found)


def _no_result(task: Task) -> str:
    """Return why there is no result."""
    is_waiting = task.status is Status.PENDING and task.attempt > 0
    return "Not yet: it waits." if is_waiting else _NO_RESULT.get(task.status, "")


def deeds_of(caller: Caller, task: Task) -> frozenset[Literal["retry", "cancel", "delete", "edit"]]:
    """Return what the caller may do with the task in its status."""
    found: set[Literal["retry", "cancel", "delete", "edit"]] = set()
    if caller.may("submit"):
        found.add("edit")
    if caller.may("control"):
        if task.status in _RETRYABLE:
            found.add("retry")
        if task.status.is_terminal:
            found.add("delete")
        elif task.cancel_requested_at is None:
            found.add("cancel")
    return frozenset(found)


def say(task: Task, attempts: Sequence[Attempt], now: datetime) -> str:
    """Return the rest of the sentence that begins with the task's status."""
    return _SENTENCES[task.status](task, attempts, now)


def _say_pending(task: Task, _: Sequence[Attempt], now: datetime) -> str:
    text = f"for {times.duration(now - task.created_at)}"
    if task.attempt:
        return f"{text}; {_tries(task.attempt, 'attempt')} so far, {_tries(task.tries_left, 'try')} left"
    return text


def _say_running(task: Task, attempts: Sequence[Attempt], now: datetime) -> str:
    began = task.started_at or now
    worker = f" on {attempts[-1].worker}" if attempts else ""
    text = f"for {times.duration(now - began)}{worker}, try {_tries_used(task, attempts)}"
    return f"{text}; asked to stop" if task.cancel_requested_at is not None else text


def _say_completed(task: Task, attempts: Sequence[Attempt], now: datetime) -> str:
    more = "" if len(attempts) <= 1 else f" at attempt {task.attempt}"
    return f"{_ended(task, now)}{more}, ran {times.duration(run_time(attempts, now))}"


def _say_failed(task: Task, attempts: Sequence[Attempt], now: datetime) -> str:
    if not attempts:
        return f"{_ended(task, now)}, before any attempt"
    used = used_tries(attempts)
    most = used + task.tries_left
    after = f"after {_tries(len(attempts), 'attempt')}" if most < 2 or not used else f"after {used} of {most} tries"
    return f"{after}, {_ended(task, now)}; ran {times.duration(run_time(attempts, now))} in all"


def _say_cancelled(task: Task, attempts: Sequence[Attempt], now: datetime) -> str:
    if not attempts:
        return f"{_ended(task, now)}, before it started"
    return f"{_ended(task, now)}; ran {times.duration(run_time(attempts, now))}"


_SENTENCES: Mapping[Status, Callable[[Task, Sequence[Attempt], datetime], str]] = {
    Status.PENDING: _say_pending,
    Status.RUNNING: _say_running,
    Status.COMPLETED: _say_completed,
    Status.FAILED: _say_failed,
    Status.CANCELLED: _say_cancelled,
}


def _ended(task: Task, now: datetime) -> str:
    return times.ago(task.finished_at or now, now)


def _tries_used(task: Task, attempts: Sequence[Attempt]) -> str:
    """Return how many tries are used up, and how many there are: "2 of 3". The one that runs is used up."""
    used = used_tries(attempts)
    if task.status is Status.RUNNING:
        return f"{used + 1} of {used + max(task.tries_left, 1)}"
    return f"{used} of {used + task.tries_left}"


def _tries(count: int, word: str) -> str:
    plural = "tries" if word == "try" else f"{word}s"
    return f"{count} {word if count == 1 else plural}"


def _trouble(caller: Caller, task: Task, attempts: Sequence[Attempt]) -> Trouble | None:
    """Return the problem of a task that has failed, or of the last attempt of one that is tried again."""
    error = task.error
    if error is None or task.status is Status.COMPLETED:
        return None
    name = error.type.rpartition("/")[2]
    kind = PROBLEMS.get(name)
    text = say_error(error)
    same = [one for one in attempts if one.error is not None and say_error(one.error) == text]
    each = f", in each of its {len(attempts)} attempts" if len(same) == len(attempts) > 1 else ""
    traceback = error.traceback if caller.may("admin") else None
    return Trouble(
        title=f"{error.title}{each}",
        error=texts.shown(text, 4000).text,
        advice="" if kind is None else kind.advice,
        traceback=None if traceback is None else texts.shown(traceback),
        attempt=error.attempt,
    )


def why_of(caller: Caller, task: Task, now: datetime) -> Why | None:
    """Return why a pending task waits; None for any other."""
    if task.status is not Status.PENDING:
        return None
    if task.reason in _PARKED:
        return _PARKED[str(task.reason)](task, now)
    if task.waiting_for is None:
        return None
    to_queue = ("See the queue", f"queue/{task.queue}")
    match task.reason:
        case "paused":
            resume = task.queue if caller.may("admin") else None
            return Why(
                "pause", f"It waits because queue {task.queue} is paused.", _place(task, now), (to_queue,), resume
            )
        case "dependencies":
            links = tuple((f"Task {str(one)[-12:]}", f"task/{one}") for one in task.depends_on[:5])
            return Why("pending", "It waits for tasks that it depends on.", "", links)
        case "budget_exhausted":
            return Why("warn", "It waits because the budget of the day is used up.", "", (("See the usage", "usage"),))
        case "scheduled" | "retrying" | "snoozed":
            due = task.next_attempt_at or task.run_at
            text = "" if due is None else f"It is due {times.ago(due, now)}, at {times.full(due)}."
            return Why("scheduled", f"It waits for its time: {task.waiting_for}.", text)
        case "concurrency_limited" | "rate_limited":
            title = f"It waits for a limit of queue {task.queue}: {task.waiting_for}."
            return Why("pending", title, _place(task, now), (to_queue,))
    if task.waiting_for.startswith("no worker"):
        title = f"It waits because no worker runs {task.type} from queue {task.queue}."
        return Why("warn", title, "Start a worker that has this type.", (("See the workers", "workers"),))
    return Why("pending", f"It waits for a free slot: {task.waiting_for}.", _place(task, now), (to_queue,))


def _why_sleeping(task: Task, now: datetime) -> Why:
    due = task.next_attempt_at or task.run_at
    if due is None:
        return Why("scheduled", "It sleeps.", "It has given its slot back.")
    return Why("scheduled", f"It sleeps, and goes on {times.ago(due, now)}.", f"It is due at {times.full(due)}.")


def _why_children(task: Task, _: datetime) -> Why:
    total, left = total_of(task.children), open_of(task.children)
    href = f"tasks?parent={task.task_id}"
    links = (("See those that are open", f"{href}&status=pending&status=running"),)
    if not total:
        return Why("parked", "It waits for its children.", "It has given its slot back.")
    many = f"{times.number(left)} of its {times.number(total)} children" if total > 1 else "its child"
    return Why(
        "parked", f"It waits for {many}.", "It has given its slot back, and goes on when they have ended.", links
    )


def _why_asking(task: Task, now: datetime) -> Why | None:
    """Return why a task waits for a person whose question is not shown above: None, for it is."""
    if task.input is not None:
        return None
    return Why("ask", "It waits for a person.", "Its question cannot be shown.")


_PARKED: Mapping[str, Callable[[Task, datetime], Why | None]] = {
    "sleeping": _why_sleeping,
    "waiting_for_children": _why_children,
    "input_required": _why_asking,
}


def _place(task: Task, now: datetime) -> str:
    """Return a sentence on a task's place in its queue and on its estimated start."""
    parts = []
    before = (task.queue_position or 1) - 1
    if before:
        many = "1 task is" if before == 1 else f"{before:,} tasks are" if before < MOST_BEFORE else "Many tasks are"
        parts.append(f"{many} before it.")
    if task.estimated_start_at is not None:
        parts.append(f"It would start {times.ago(task.estimated_start_at, now)}, about.")
    return " ".join(parts)


def _percent(task: Task) -> int | None:
    if task.progress is None or task.progress.fraction is None:
        return None
    return round(100 * min(1.0, max(0.0, task.progress.fraction)))


def _progress_note(task: Task) -> str:
    progress = task.progress
    if progress is None:
        return ""
    if progress.message:
        return texts.line(progress.message)
    if progress.current is None or progress.total is None:
        return ""
    return f"{times.number(progress.current)} of {times.number(progress.total)}"


def facts_of(task: Task, attempts: Sequence[Attempt], now: datetime) -> list[Fact]:
    """Return the facts that differ from nothing, in the order in which people ask for them."""
    facts = [
        Fact("Queue", task.queue, f"queue/{task.queue}"),
        Fact("Place", "" if task.queue_position is None else f"{task.queue_position:,}"),
        Fact("Priority", str(task.priority)),
        Fact("Tries", _tries_used(task, attempts)),
        Fact("Submitted", at=task.created_at),
        Fact("Owner", texts.line(task.owner or "")),
        Fact("Due", at=task.run_at),
        Fact("Started", at=task.started_at),
        Fact("Ended", at=task.finished_at),
        Fact(
            _NEXT.get(str(task.reason), "Next attempt"),
            at=task.next_attempt_at if task.status is Status.PENDING else None,
        ),
        Fact("Deadline", at=task.deadline),
        Fact("Kept until", at=task.expires_at),
        Fact("Group") if task.group is None else Fact("Group", task.group, address_of(task.group, task.owner)),
        *_after_group(task),
        Fact("Unique key", texts.line(task.unique_key or "")),
        Fact("Concurrency key", texts.line(task.concurrency_key or "")),
        _link("Schedule", "schedule", task.schedule_id),
        Fact("Tick", at=task.scheduled_for),
        _link("Run again from", "task", task.replay_of),
        _link("Child of", "task", task.parent_id),
        _link("Root", "task", task.root_id if task.root_id != task.parent_id else None),
        *(_link("Depends on", "task", one) for one in task.depends_on),
        *_webhook(task),
        Fact("Trace", texts.line((task.traceparent or "")[3:35])),
    ]
    return [fact for fact in facts if fact.text or fact.at is not None]


def _link(name: str, page: str, target: UUID | None) -> Fact:
    return Fact(name) if target is None else Fact(name, str(target)[-12:], f"{page}/{target}")


def _after_group(task: Task) -> list[Fact]:
    """Return the group that the task depends on."""
    after = task.depends_on_group
    return [] if after is None else [Fact("Depends on", after.group, address_of(after.group, task.owner))]


def _webhook(task: Task) -> list[Fact]:
    if task.webhook is None:
        return []
    return [Fact("Webhook", texts.line(task.webhook.url, 80), f"webhook/{task.webhook.webhook_id}")]


def _usage(task: Task) -> list[Fact]:
    """Return what the task reports to have used up: its sums first."""
    said: dict[str, Any] = read_usage(bytes(task.usage))
    names = [*(name for name in SUMMED if name in said), *(name for name in said if name not in SUMMED)]
    return [Fact(texts.line(name.replace("_", " ").capitalize(), 60), _amount(name, said[name])) for name in names[:20]]


def _amount(name: str, value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"${value:.6f}".rstrip("0").rstrip(".") if name == "cost" else times.number(value)
    return texts.line(value) if isinstance(value, str) else texts.json_line(msgspec.json.encode(value))
