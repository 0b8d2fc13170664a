"""When schedules fire: rules without a clock or a store, by table."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, structs

from tasker.model.schedules import Firing, Schedule, Skip
from tasker.rules import ticks as timing
from tasker.rules.ticks import (
    check_cron,
    check_zone,
    find_zone,
    for_tick,
    next_tick,
    plan,
    resolve,
    resumed_at,
    set_right,
    settle,
    tick_task_id,
    ticks,
)
from tasker.testing import make_draft

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


def at(text: str) -> datetime:
    """Return a time of 2026 in UTC, from `03-29T01:00`, with seconds or not."""
    return datetime.fromisoformat(f"2026-{text}").replace(tzinfo=UTC)


def make(cron: str | None = None, **fields: Any) -> Schedule:
    start = at("01-01T00:00")
    fields = {"anchor": start, "created_at": start, "updated_at": start, **fields}
    return Schedule(schedule_id=UUID(int=7), name="s", type="sum", cron=cron, task=Raw(b"{}"), **fields)


def shown(found: list[datetime]) -> list[str]:
    return [tick.strftime("%m-%dT%H:%M") for tick in found]


def first_ticks(schedule: Schedule, after: datetime, count: int) -> list[datetime]:
    return list(islice(ticks(schedule, after), count))


BERLIN = "Europe/Berlin"  # 2026: put forward on 29 March at 01:00 UTC (02:00 to 03:00), back on 25 October at 01:00
LORD_HOWE = "Australia/Lord_Howe"  # half an hour: put forward on 4 October at 15:30 UTC of the 3rd, 02:00 to 02:30


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        ("*/15 * * * *", "UTC", "01-01T00:00", ["01-01T00:15", "01-01T00:30", "01-01T00:45"]),
        ("0 9 * * MON-FRI", BERLIN, "01-02T12:00", ["01-05T08:00", "01-06T08:00"]),
        ("0 0 1,15 * SUN", "UTC", "01-01T00:00", ["01-04T00:00", "01-11T00:00", "01-15T00:00"]),
        ("0 0 L * *", "UTC", "01-01T00:00", ["01-31T00:00", "02-28T00:00"]),
        ("0 8 * * MON#1", "UTC", "01-06T00:00", ["02-02T08:00", "03-02T08:00"]),
        # A set time that the clocks leave out is fired the moment they are put forward; the days around it are as ever.
        ("30 2 * * *", BERLIN, "03-28T00:00", ["03-28T01:30", "03-29T01:00", "03-30T00:30"]),
        ("0,30 2,3 * * *", BERLIN, "03-29T00:00", ["03-29T01:00", "03-29T01:30", "03-30T00:00"]),
        ("0 3 * * *", BERLIN, "03-28T12:00", ["03-29T01:00", "03-30T01:00"]),
        # A set time that there is twice is fired the first time.
        ("30 2 * * *", BERLIN, "10-24T12:00", ["10-25T00:30", "10-26T01:30"]),
        ("30 2 * * *", BERLIN, "10-25T00:29", ["10-25T00:30", "10-26T01:30"]),
        ("30 2 * * *", BERLIN, "10-25T00:30", ["10-26T01:30"]),
        ("30 2 * * *", BERLIN, "10-25T01:15", ["10-26T01:30"]),
        ("0 3 * * *", BERLIN, "10-24T12:00", ["10-25T02:00", "10-26T02:00"]),
        # Rules that begin with a star in minute or hour go by what the clocks show: left out, or twice.
        ("*/30 * * * *", BERLIN, "03-29T00:00", ["03-29T00:30", "03-29T01:00", "03-29T01:30"]),
        ("*/30 * * * *", BERLIN, "10-25T00:00", ["10-25T00:30", "10-25T01:00", "10-25T01:30", "10-25T02:00"]),
        ("*/30 2 * * *", BERLIN, "03-28T12:00", ["03-30T00:00", "03-30T00:30"]),
        ("*/30 2 * * *", BERLIN, "10-24T12:00", ["10-25T00:00", "10-25T00:30", "10-25T01:00", "10-25T01:30"]),
        ("15 2 * * *", LORD_HOWE, "10-03T00:00", ["10-03T15:30", "10-04T15:15"]),
        ("45 1 * * *", LORD_HOWE, "04-04T00:00", ["04-04T14:45", "04-05T15:15"]),
        ("*/15 * * * *", LORD_HOWE, "04-04T14:40", ["04-04T14:45", "04-04T15:00", "04-04T15:15", "04-04T15:30"]),
        ("45 * * * *", LORD_HOWE, "04-04T14:00", ["04-04T14:45", "04-04T15:15", "04-04T16:15"]),
        # The clocks are put forward at midnight, the first time of a day.
        ("0 0 * * *", "Africa/Cairo", "04-23T00:00", ["04-23T22:00", "04-24T21:00"]),
        ("*/30 0 * * *", "America/Havana", "03-07T00:00", ["03-07T05:00", "03-07T05:30", "03-09T04:00"]),
        ("0 12 * * *", "America/Sao_Paulo", "02-14T00:00", ["02-14T15:00", "02-15T15:00"]),
    ],
)
def test_ticks_of_a_cron_rule(cron: str, zone: str, after: str, expected: list[str]) -> None:
    schedule = make(cron, time_zone=zone)
    assert shown(first_ticks(schedule, at(after), len(expected))) == expected


@pytest.mark.parametrize(
    ("fields", "after", "expected"),
    [
        ({"interval": HOUR}, "01-01T00:00", ["01-01T01:00", "01-01T02:00"]),
        ({"interval": HOUR}, "05-01T10:30", ["05-01T11:00", "05-01T12:00"]),
        ({"interval": HOUR}, "03-29T00:59", ["03-29T01:00", "03-29T02:00"]),
        ({"interval": HOUR, "starts_at": at("02-01T00:30"), "anchor": at("02-01T00:30")}, "01-01T00:00",
         ["02-01T00:30", "02-01T01:30"]),
        ({"interval": HOUR, "starts_at": at("02-01T00:30"), "anchor": at("02-01T00:30")}, "02-01T00:30",
         ["02-01T01:30", "02-01T02:30"]),
        ({"interval": HOUR, "ends_at": at("01-01T02:00")}, "01-01T00:00", ["01-01T01:00", "01-01T02:00"]),
        ({"cron": "0 * * * *", "starts_at": at("02-01T03:00"), "ends_at": at("02-01T04:30")}, "01-01T00:00",
         ["02-01T03:00", "02-01T04:00"]),
        ({"interval": timedelta(days=365 * 9000)}, "01-01T00:00", []),
    ],
)  # fmt: skip
def test_ticks_within_bounds(fields: dict[str, Any], after: str, expected: list[str]) -> None:
    assert shown(first_ticks(make(**fields), at(after), 2)) == expected


@given(st.sampled_from(["30 2 * * *", "*/7 * * * *", "0,30 1-3 * * *", "59 23 * * *", "*/20 2 * * *", "0 */3 * * *"]),
       st.sampled_from([BERLIN, LORD_HOWE, "America/New_York", "Africa/Casablanca", "UTC"]),
       st.integers(0, 3 * 365 * 24 * 3600 * 10))  # fmt: skip
def test_the_next_tick_is_the_same_from_every_earlier_time(cron: str, zone: str, tenths: int) -> None:
    schedule, moment = make(cron, time_zone=zone), at("01-01T00:00") + tenths * SECOND / 10
    first, second = first_ticks(schedule, moment, 2)
    assert moment < first < second
    assert next_tick(schedule, first) == second
    assert next_tick(schedule, first - timedelta(microseconds=1)) == first
    assert next_tick(schedule, moment + (first - moment) / 2) == first


@pytest.mark.parametrize(
    "rule",
    [
        "* * * * * *", "0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *", "* " * 5000, "", " ", "@daily", "* * * *",
        "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *", "5-1 * * * *", "a * * * *",
        "-1 * * * *", "1.5 * * * *", "* * * * MONDAY", "\uff11 * * * *", "* * * * *\n", "*\u2003* * * *",
        "\x00 * * * *", "*,, * * * *", "0 0 * * MON#6", "9" * 100 + " * * * *", "* * ? * *",
        "*/61 * * * *", "0,10-20/61 * * * *", "0 */25 * * *", "0 0 */32 * *", "0 0 1 */13 *", "0 0 * * */8",
        "0 0 L/2 * *", "0 0 1,lw/2 * *", "*/" + "9" * 100 + " * * * *",
    ],
)  # fmt: skip
def test_an_invalid_cron_rule_is_refused_at_once(rule: str) -> None:
    begun = time.process_time()
    with pytest.raises(ValueError, match=r"^expected "):
        check_cron(rule)
    assert time.process_time() - begun < 0.5


@given(st.text("0123456789*/,-#LWMONJANSU ", max_size=30))
def test_any_text_is_a_rule_or_is_refused(text: str) -> None:
    try:
        check_cron(text)
    except ValueError:
        return
    assert next_tick(make(text, time_zone=BERLIN), at("01-01T00:00")) is not None


@pytest.mark.parametrize(
    "name", ["", "Europe", "Europe/Atlantis", "../../etc/passwd", "/etc/passwd", "x" * 999, "CET\0"]
)
def test_an_unknown_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a time zone"):
        find_zone(name)
    assert find_zone(BERLIN).key == BERLIN


@pytest.mark.parametrize("rule", ["*/60 * * * *", "0 */24 * * *", "0 0 */31 * *", "0 0 1 */12 *", "0 0 * * */7"])
def test_a_step_may_be_as_large_as_its_field(rule: str) -> None:
    check_cron(rule)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("localtime", None), ("posixrules", None), ("right/UTC", "Etc/UTC"), ("posix/Zulu", None), ("Factory", None),
        ("", None), ("x" * 1_000_000, None), ("Mars/Olympus", None), ("../../etc/passwd", None),
        ("europe/berlin", BERLIN), ("America/New York", "America/New_York"), ("Europe/Kyev", "Europe/Kyiv"),
    ],
)  # fmt: skip
def test_a_zone_that_other_machines_may_lack_is_refused(name: str, hint: str | None) -> None:
    with pytest.raises(ValueError, match=r"^expected a time zone") as raised:
        check_zone(name)
    assert str(raised.value).endswith(f"did you mean `{hint}`?" if hint else "like `Europe/Berlin`")


def test_a_name_too_long_for_a_zone_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """To compare a megabyte with all names blocks the event loop for half a second."""
    monkeypatch.delattr(timing, "get_close_matches")
    with pytest.raises(ValueError, match=r"^expected a time zone"):
        check_zone("x" * 65)


@pytest.mark.parametrize("name", ["UTC", BERLIN, "US/Eastern", "EST5EDT", "Etc/GMT+12"])
def test_a_zone_of_the_database_is_accepted(name: str) -> None:
    check_zone(name)
    assert find_zone(name).key == name


@pytest.mark.parametrize(
    ("missed", "after", "ticks", "skip"),
    [
        ("skip", 5 * SECOND, ["01-01T01:00"], None),
        ("once", 5 * SECOND, ["01-01T01:00"], None),
        ("all", 5 * SECOND, ["01-01T01:00"], None),
        ("skip", 59 * SECOND, ["01-01T01:00"], None),
        ("skip", 60 * SECOND, [], "01-01T01:00"),
        ("once", 60 * SECOND, ["01-01T01:00"], None),
        ("skip", 3 * HOUR, ["01-01T04:00"], "01-01T03:00"),
        ("skip", 3 * HOUR + 20 * MINUTE, [], "01-01T04:00"),
        ("once", 3 * HOUR + 20 * MINUTE, ["01-01T04:00"], None),
        ("all", 3 * HOUR + 20 * MINUTE, ["01-01T01:00", "01-01T02:00", "01-01T03:00", "01-01T04:00"], None),
    ],
)
def test_missed_ticks(missed: str, after: timedelta, ticks: list[str], skip: str | None) -> None:
    """An hourly schedule whose tick at 01:00 is found late by that much."""
    due = at("01-01T01:00")
    schedule = make("0 * * * *", missed=missed, next_fire_at=due)
    planned = plan(schedule, due + after)
    assert shown(planned.ticks) == ticks
    assert (None if planned.skip is None else shown([planned.skip.tick])[0]) == skip
    assert planned.next_fire_at == due + (after // HOUR + 1) * HOUR


def test_missed_ticks_across_a_change_of_the_clocks() -> None:
    """Three hours of downtime around the change: every tick once."""
    autumn = make("30 * * * *", time_zone=BERLIN, missed="all", next_fire_at=at("10-24T23:30"))
    assert shown(plan(autumn, at("10-25T02:40")).ticks) == ["10-24T23:30", "10-25T00:30", "10-25T01:30", "10-25T02:30"]
    nightly = structs.replace(autumn, cron="30 1-3 * * *")
    assert shown(plan(nightly, at("10-25T02:40")).ticks) == ["10-24T23:30", "10-25T00:30", "10-25T02:30"]
    spring = make("30 2 * * *", time_zone=BERLIN, missed="all", next_fire_at=at("03-29T01:00"))
    planned = plan(spring, at("03-29T03:40"))
    assert (shown(planned.ticks), shown([planned.next_fire_at])) == (["03-29T01:00"], ["03-30T00:30"])  # type: ignore[list-item]


@pytest.mark.parametrize("fields", [{"interval": SECOND}, {"cron": "* * * * *"}, {"cron": "0 * * * *"}])
def test_years_of_missed_ticks_are_bounded_and_found_fast(fields: dict[str, Any]) -> None:
    schedule = make(**fields, missed="all", next_fire_at=at("01-01T01:00"))
    now, begun = at("01-01T00:00").replace(year=2035), time.process_time()
    planned = plan(schedule, now)
    assert time.process_time() - begun < 1
    assert len(planned.ticks) == 100
    assert planned.ticks == sorted(set(planned.ticks))
    assert planned.ticks[-1] == now
    assert planned.next_fire_at == next_tick(schedule, now)


def test_a_clock_that_was_set_back_fires_no_tick_again() -> None:
    schedule = make("0 * * * *", last_fired_at=at("01-01T05:00"))
    assert resumed_at(schedule, at("01-01T02:30")) == at("01-01T06:00")
    assert resumed_at(schedule, at("01-01T07:30")) == at("01-01T08:00")
    assert resumed_at(structs.replace(schedule, paused=True), at("01-01T07:30")) is None
    assert resumed_at(make("0 * * * *", ends_at=at("01-01T02:00")), at("01-01T02:30")) is None


@pytest.mark.parametrize(
    ("overlap", "ticks", "open_tasks", "drafts", "cancelled", "skipped"),
    [
        ("allow", 3, 2, [0, 1, 2], 0, None),
        ("skip", 1, 0, [0], 0, None),
        ("skip", 1, 1, [], 0, 0),
        ("skip", 3, 0, [0], 0, 2),
        ("skip", 0, 1, [], 0, None),
        ("replace", 1, 0, [0], 0, None),
        ("replace", 3, 2, [2], 2, None),
        ("replace", 0, 2, [], 0, None),
    ],
)
def test_overlaps(
    overlap: str, ticks: int, open_tasks: int, drafts: list[int], cancelled: int, skipped: int | None
) -> None:
    schedule = make(interval=HOUR, overlap=overlap)
    moments = [at("01-01T01:00") + number * HOUR for number in range(ticks)]
    made = tuple(for_tick(make_draft(), schedule, tick) for tick in moments)
    firing = Firing(schedule=schedule, now=at("01-31T00:00"), drafts=made, next_fire_at=at("02-01T00:00"))
    opened = [UUID(int=number) for number in range(open_tasks)]
    resolution = resolve(firing, opened)
    assert [made.index(draft) for draft in resolution.drafts] == drafts
    assert resolution.cancel == tuple(opened[:cancelled])
    assert (None if resolution.skip is None else moments.index(resolution.skip.tick)) == skipped
    after = settle(firing, resolution, opened, resolution.drafts)
    assert (after.version, after.next_fire_at) == (2, at("02-01T00:00"))
    assert after.last_fired_at == (moments[drafts[-1]] if drafts else None)
    assert set(after.recent) >= {draft.task_id for draft in resolution.drafts}


def test_the_id_of_a_ticks_task_is_its_own() -> None:
    ids = {tick_task_id(UUID(int=one), at("01-01T00:00") + tick * SECOND) for one in range(9) for tick in range(9)}
    assert len(ids) == 81
    one = tick_task_id(UUID(int=1), at("01-01T00:00"))
    assert (one.version, one.variant) == (7, UUID(int=1 << 63).variant)
    assert int.from_bytes(one.bytes[:6], "big") == at("01-01T00:00").timestamp() * 1000
    assert one == tick_task_id(UUID(int=1), at("01-01T00:00").astimezone(find_zone(BERLIN)))


@pytest.mark.parametrize("fields", [{"cron": "0 * * * *"}, {"interval": HOUR}])
def test_a_schedule_that_fired_in_the_far_future_goes_on_from_now(fields: dict[str, Any]) -> None:
    now, ahead = at("03-01T10:30"), at("03-01T10:30") + timedelta(days=3653)
    fired = make(**fields, next_fire_at=ahead + HOUR, last_fired_at=ahead)
    after = set_right(fired, now)
    assert (after.version, after.next_fire_at, after.last_fired_at) == (fired.version + 1, at("03-01T11:00"), None)
    skipped = make(**fields, next_fire_at=ahead + HOUR, last_skip=Skip(tick=ahead, reason="missed"))
    assert set_right(skipped, now).next_fire_at == at("03-01T11:00")
    assert set_right(after, now) is after


def test_a_schedule_that_was_created_in_the_far_future_begins_now() -> None:
    now, ahead = at("03-01T10:30"), at("03-01T10:30") + timedelta(days=3653)
    assert set_right(make(interval=HOUR, anchor=ahead, next_fire_at=ahead + HOUR), now).next_fire_at == now + HOUR
    starts = make(interval=HOUR, anchor=ahead, starts_at=ahead, next_fire_at=ahead)
    assert set_right(starts, now) is starts, "the client set this start"


def test_a_clock_that_is_set_back_by_less_than_a_day_repeats_nothing() -> None:
    now = at("03-01T10:30")
    fired = make("0 * * * *", next_fire_at=at("03-02T10:00"), last_fired_at=at("03-02T09:00"))
    assert set_right(fired, now) is fired


def test_a_paused_schedule_stays_paused() -> None:
    ahead = at("03-01T10:30") + timedelta(days=3653)
    assert set_right(make("0 * * * *", paused=True, last_fired_at=ahead), at("03-01T10:30")).next_fire_at is None
