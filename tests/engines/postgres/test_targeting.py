"""The choice of the workers that are told of new tasks, and when everybody is told."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import msgspec
import pytest

from tasker.engines.postgres.pacing import CHECK_AFTER, GAP, LONGEST_PAUSE, SLACK, Gap, Watch
from tasker.engines.postgres.targeting import Fleet, Member, Pool, Presence, member_of
from tasker.model import WorkerInfo
from tasker.testing import START

SECOND = timedelta(seconds=1)


def make_member(
    name: str,
    *pools: tuple[str, int],
    types: str = "sum crunch",
    queues: frozenset[str] | None = None,
    level: int = 1,
    channel: str | None = "own",
) -> Member:
    """Make a worker, with the types and free slots of its pools; without pools all its slots are used."""
    return Member(
        name, START, f"to-{name}" if channel == "own" else channel, frozenset(types.split()), queues, level,
        tuple(Pool(tuple(names.split()), slots, 0) for names, slots in pools),
    )  # fmt: skip


def ready(name: str, slots: int = 10) -> Member:
    return make_member(name, ("sum", slots), ("crunch", 2))


FULL = make_member("full")
HELD = make_member("held", ("crunch", 2))

CASES: list[tuple[str, list[Member], dict[str, int], set[str], list[str] | None]] = [
    ("nobody is known", [], {"q/sum": 1}, set(), None),
    ("one is enough", [ready("a"), ready("b"), ready("c")], {"q/sum": 10}, set(), ["to-a"]),
    ("two are needed", [ready("a"), ready("b"), ready("c")], {"q/sum": 11}, set(), ["to-a", "to-b"]),
    ("all are needed", [ready("a"), ready("b")], {"q/sum": 11}, set(), None),
    ("there is only one", [ready("a")], {"q/sum": 500}, set(), ["to-a"]),
    ("child processes have slots of their own", [ready("a"), ready("b"), ready("c")], {"q/crunch": 3}, set(),
     ["to-a", "to-b"]),
    ("a full one is left out", [FULL, ready("z"), ready("zz")], {"q/sum": 1}, set(), ["to-z"]),
    ("one whose pool is full too", [HELD, ready("z"), ready("zz")], {"q/sum": 1}, set(), ["to-z"]),
    ("among full ones, one for each task", [FULL, HELD, make_member("x")], {"q/sum": 2}, set(), ["to-full", "to-held"]),
    ("one that took nothing is passed over", [ready("a"), ready("b"), ready("c")], {"q/sum": 1}, {"a"}, ["to-b"]),
    ("unless all took nothing", [ready("a"), ready("b"), ready("c")], {"q/sum": 1}, {"a", "b", "c"}, ["to-a"]),
    ("of other types", [make_member("a", ("other", 9), types="other"), ready("b")], {"q/sum": 1}, set(), ["to-b"]),
    ("of other queues", [make_member("a", ("sum", 9), queues=frozenset({"r"})), ready("b")], {"q/sum": 1}, set(),
     ["to-b"]),
    ("of its queue", [make_member("a", ("sum", 9), queues=frozenset({"q"})), ready("b"), ready("c")], {"q/sum": 1},
     set(), ["to-a"]),
    ("of a lower level", [make_member("a", ("sum", 9), level=0), ready("b")], {"q/@1/sum": 1}, set(), ["to-b"]),
    ("of no level that exists", [ready("a")], {"q/@7/sum": 1}, set(), None),
    ("an earlier release hears only the common channel", [make_member("a", channel=None), ready("b"), ready("c")],
     {"q/sum": 1}, set(), None),
    ("but not if it takes other tasks", [make_member("a", channel=None, types="other"), ready("b"), ready("c")],
     {"q/sum": 1}, set(), ["to-b"]),
    ("one that cannot listen looks often", [make_member("a", ("sum", 9), channel=""), ready("b"), ready("c")],
     {"q/sum": 1}, set(), ["to-b"]),
    ("none can listen", [make_member("a", ("sum", 9), channel="")], {"q/sum": 1}, set(), None),
    ("a queue's settings have changed", [ready("a"), ready("b")], {"q/*": 1}, set(), None),
    ("a name of any form", [ready("a"), ready("b")], {"": 1}, set(), None),
    ("two with the same channel are one notification",
     [make_member("a", ("sum", 5), channel="same"), make_member("b", ("sum", 5), channel="same"), ready("c")],
     {"q/sum": 10}, set(), ["same"]),
]  # fmt: skip


@pytest.mark.parametrize(("members", "tasks", "passed_over", "channels"), [case[1:] for case in CASES],
                         ids=[case[0] for case in CASES])  # fmt: skip
def test_who_is_told(
    members: list[Member], tasks: dict[str, int], passed_over: set[str], channels: list[str] | None
) -> None:
    choice = Fleet(members).choose(tasks, passed_over)
    if channels is None:
        assert choice == (list(tasks), {}, {})
    else:
        assert choice.everybody == []
        assert choice.channels == {channel: list(tasks) for channel in channels}


def test_suspects_go_where_a_suspect_may_run() -> None:
    alone = make_member("a")._replace(pools=(Pool(("sum",), 9, 0), Pool(("sum",), 0, 1)))
    busy = make_member("b")._replace(pools=(Pool(("sum",), 9, 0),))
    for members in ([alone, busy], [busy, alone]):
        assert list(Fleet(members).choose({"q/sum/alone": 1}, ()).channels) == ["to-a"]


def test_workers_take_turns() -> None:
    fleet = Fleet([ready(name) for name in "abcd"])
    told = Counter(channel for _ in range(8) for channel in fleet.choose({"q/sum": 1}, ()).channels)
    assert told == dict.fromkeys(["to-a", "to-b", "to-c", "to-d"], 2)


def test_the_only_worker_is_watched_for_another_may_not_be_known_yet() -> None:
    assert Fleet([ready("a")]).choose({"q/sum": 1}, ()) == ([], {"to-a": ["q/sum"]}, {"q/sum": {"a"}})


def test_two_partitions_share_the_slots_of_a_pool() -> None:
    members = [make_member(name, ("sum crunch more", 3), types="sum crunch more") for name in "abc"]
    choice = Fleet(members).choose({"q/sum": 4, "q/crunch": 3, "q/more": 1}, ())
    assert choice.workers == {"q/sum": {"a", "b"}, "q/crunch": {"c"}, "q/more": {"b"}}, "a has no slots left"


INFO = WorkerInfo(
    worker_id="w", host="here", pid=1, version="0", started_at=START, queues=None, types=("sum",), slots=1, processes=1,
    heartbeat_every=3 * SECOND,
)  # fmt: skip


@pytest.mark.parametrize(
    ("draining", "silent", "is_known"),
    [(False, 0, True), (False, 8, True), (False, 9, False), (True, 0, False)],
    ids=["alive", "late", "gone", "draining"],
)
def test_who_counts_as_alive(draining: bool, silent: int, is_known: bool) -> None:
    presence = Presence(**msgspec.structs.asdict(INFO) | {"draining": draining, "channel": "c"})
    assert (member_of(presence, START, silent * SECOND) is not None) == is_known


def test_earlier_and_later_releases_read_each_other() -> None:
    presence = Presence(**msgspec.structs.asdict(INFO), channel="c", pools=(Pool(("sum",), 1, 0),))
    assert msgspec.json.decode(msgspec.json.encode(presence), type=WorkerInfo) == INFO
    earlier = msgspec.json.decode(msgspec.json.encode(INFO), type=Presence)
    assert (earlier.channel, earlier.pools) == (None, ())


def test_a_gap_holds_all_but_the_first() -> None:
    gap = Gap()
    assert gap.let_through({"a": 1}, 0.0) == ({"a": 1}, {})
    assert gap.let_through({"a": 2, "b": 1}, GAP / 2) == ({"b": 1}, {"a": 2})
    assert gap.next_at() is None, "they may not be stored yet"
    gap.hold({"a": 2})
    gap.hold({"a": 3})
    over = GAP + SLACK
    assert gap.next_at() == over
    assert gap.release(GAP) == {}, "another transaction may take them along"
    assert gap.release(over) == {"a": 5}
    assert gap.let_through({"a": 1}, over + GAP / 2) == ({}, {"a": 1}), "it began a gap of its own"
    assert gap.let_through({"a": 1}, over + GAP) == ({"a": 1}, {})
    gap.hold({"a": 1})
    assert (gap.release_all(), gap.release_all()) == ({"a": 1}, {})


def test_the_next_transaction_after_a_gap_tells_of_what_was_held() -> None:
    gap = Gap()
    gap.let_through({"a": 1, "b": 1}, 0.0)
    gap.hold({"a": 5, "b": 1})
    assert gap.let_through({"a": 2}, GAP) == ({"a": 2}, {})
    assert gap.held_of(["a"]) == {"a": 5}
    gap.hold({"a": 3})
    assert gap.next_at() is not None, "it may still fail"
    gap.forget({"a": 5})
    assert gap.held_of(["a", "b"]) == {"a": 3, "b": 1}
    assert gap.release_all() == {"a": 3, "b": 1}
    gap.forget({"a": 3})
    assert gap.next_at() is None, "its timer was faster"


def test_a_gap_forgets_the_past() -> None:
    gap = Gap()
    for number in range(5000):
        gap.let_through({f"q/{number}": 1}, float(number))
    assert len(gap._opens_at) < 1100


class Watching:
    """A watch over one partition, with both clocks at the same number of seconds."""

    def __init__(self, partition: str = "q/sum") -> None:
        self.watch, self.partition = Watch(), partition

    def add(self, at: float, *workers: str) -> None:
        self.watch.add(self.partition, workers, at)

    def look(self, at: float, first: float | None) -> tuple[str, set[str]]:
        """Look at a time; first: when the oldest job was queued. Return how many to tell, and who is idle."""
        found = {} if first is None else {self.partition: _time(first)}
        seen = self.watch.see([self.partition], found, _time(at), at)
        return "few" * bool(seen.few) + "all" * bool(seen.all), seen.idle


def _time(at: float) -> datetime:
    return START + timedelta(seconds=at)


def test_tasks_that_are_taken_are_forgotten() -> None:
    watching = Watching()
    watching.add(0.0, "a")
    assert watching.watch.next_at() == CHECK_AFTER
    assert watching.watch.due(0.04) == []
    assert watching.watch.due(0.05) == ["q/sum"]
    assert watching.look(0.05, None) == ("", set())
    assert watching.watch.next_at() is None


def test_a_few_and_then_everybody_are_told_of_tasks_that_are_not_taken_ever_more_rarely() -> None:
    watching = Watching()
    watching.add(0.0, "a")
    times, at = [], 0.05
    assert watching.look(at, 0.0) == ("few", {"a"})
    while len(times) < 8:
        next_at = watching.watch.next_at()
        assert next_at is not None
        times.append(round(next_at - at, 3))
        at = next_at
        assert watching.look(at, 0.0) == ("all", set())
    assert times == [0.1, 0.2, 0.4, 0.8, 1.6, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]


def test_while_tasks_wait_new_ones_do_not_make_it_speak_more() -> None:
    watching = Watching()
    watching.add(0.0, "a")
    told, at = 0, 0.05
    while at < 3.0:
        watching.add(at)
        told += bool(watching.look(at, 0.0)[0])
        at += 0.05
    assert told == 5, "after 0.05, 0.15, 0.35, 0.75 and 1.55 s"


def test_a_later_task_is_told_of_as_soon_as_the_first() -> None:
    """The one before it was taken once everybody was told."""
    watching = Watching()
    watching.add(0.0, "a")
    assert watching.look(0.05, 0.0) == ("few", {"a"})
    for number in range(1, 9):
        at = number * 0.06
        watching.add(at, "b")
        assert watching.watch.next_at() is not None
        assert watching.look(at + 0.05, at) == ("few", {"b"}), "workers take tasks: they are only busy"


def test_those_that_are_told_again_and_take_nothing_either_are_idle() -> None:
    watching = Watching()
    watching.add(0.0, "a")
    assert watching.look(0.05, 0.0) == ("few", {"a"})
    watching.add(0.05, "b", "c")
    assert watching.look(0.1, 0.0) == ("", {"b", "c"})
    assert watching.look(0.16, 0.0) == ("all", set())


def test_a_task_that_was_added_just_now_is_looked_at_again() -> None:
    watching = Watching()
    watching.add(0.0, "a")
    watching.add(0.04, "b")
    assert watching.look(0.05, 0.04) == ("", set()), "it had no time"
    assert watching.watch.next_at() == pytest.approx(0.09)
    assert watching.look(0.0901, 0.04) == ("few", {"b"})


def test_nobody_is_blamed_where_settings_may_hold_tasks_back() -> None:
    watching = Watching("q/@1/sum")
    watching.add(0.0, "a")
    assert watching.look(0.05, 0.0) == ("few", set())


def test_a_look_without_an_answer_is_put_off() -> None:
    watching = Watching()
    watching.add(0.0, "a")
    watching.watch.put_off(["q/sum"], 0.05)
    assert watching.watch.next_at() == 0.05 + LONGEST_PAUSE
    watching.add(1.0, "a")
    assert watching.watch.next_at() == 1.0 + CHECK_AFTER


def test_more_than_the_tasks_need_are_told_if_asked_for_as_far_as_they_are_ready() -> None:
    fleet = Fleet([*map(ready, "abcd"), FULL])
    assert sorted(fleet.choose({"q/sum": 1}, {"b"}, at_least=3).channels) == ["to-a", "to-c", "to-d"]
    assert sorted(fleet.choose({"q/sum": 1}, {"b", "c"}, at_least=3).channels) == ["to-a", "to-d"]
