"""The charts, by the figures that they are laid out with; their markup by what every chart must keep."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from tasker.web.charts import (
    Bucket,
    Line,
    Span,
    Tick,
    Try,
    bars,
    day,
    histogram,
    line,
    meter,
    next_day,
    scales,
    shares,
    slots,
    sparkline,
    tick_history,
    waterfall,
)
from tasker.web.charts.bars import lay_out as lay_out_bars
from tasker.web.charts.histogram import lay_out as lay_out_histogram
from tasker.web.charts.histogram import place_of
from tasker.web.charts.small import heights
from tasker.web.charts.spans import MOST_BARS, MOST_LANES, SpanKind, lanes_of, say_lane
from tasker.web.charts.spans import lay_out as lay_out_spans
from tasker.web.charts.svg import element
from tasker.web.charts.waterfall import SPAN, lay_out, make_scale, say

NOW = datetime(2026, 11, 29, 14, 32, 7, tzinfo=UTC)
S = timedelta(seconds=1)
HOSTILE = "<script>alert(1)</script>\"'&"


def at(seconds: float) -> datetime:
    return NOW + seconds * S


def a_try(number: int, due: float | None, began: float | None, ended: float | None = None, retry: float | None = None,
          colour: str = "failed") -> Try:  # fmt: skip
    moments = (None if seconds is None else at(seconds) for seconds in (due, began, ended, retry))
    return Try(number, *moments, colour)


# scales


@pytest.mark.parametrize(
    ("value", "rounded"), [(0, 1), (1, 1), (1.2, 2), (6, 8), (8.1, 10), (11, 20), (99, 100), (348, 400), (801, 1000)]
)
def test_round_numbers(value: float, rounded: int) -> None:
    assert scales.round_up(value) == rounded


@pytest.mark.parametrize(
    ("seconds", "step"), [(0.004, 0.001), (0.9, 0.2), (9, 2), (75, 15), (140, 30), (3600, 900), (86_400, 21_600)]
)
def test_steps_of_an_axis(seconds: float, step: float) -> None:
    assert scales.step_for(seconds * S).total_seconds() == step


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "+250 ms"), (30, "+30 s"), (60, "+1 min"), (90, "+1:30 min"), (5400, "+1:30 h"), (7200, "+2 h"),
     (172_800, "+2 d")],
)  # fmt: skip
def test_offsets(seconds: float, text: str) -> None:
    assert scales.show_offset(seconds * S) == text


# bars


def test_bars_have_two_scales() -> None:
    minutes = [
        Bucket(at(60 * n), completed, failed, 0) for n, (completed, failed) in enumerate([(0, 0), (900, 9), (450, 3)])
    ]
    layout = lay_out_bars(minutes)
    assert layout.labels == (900, 600, 300, 0, 10)
    assert [bar.completed for bar in layout.bars] == [0, 64, 32]
    assert [round(bar.failed, 3) for bar in layout.bars] == [0, 19.8, 6.6]


def test_cancelled_stand_on_completed() -> None:
    [bar] = lay_out_bars([Bucket(NOW, 2, 0, 1)]).bars
    assert bar.completed + bar.cancelled == 64
    assert bar.completed == 2 * bar.cancelled


def test_bars_of_nothing() -> None:
    assert lay_out_bars([]).labels == (3, 2, 1, 0, None)
    assert "nothing ended" in bars([Bucket(NOW)], label="Ended")
    parsed(bars([], label="Ended"))


def test_times_under_bars() -> None:
    layout = lay_out_bars([Bucket(at(60 * n)) for n in range(60)])
    assert [text for _, text in layout.times] == [
        "\N{MINUS SIGN}45 min",
        "\N{MINUS SIGN}30 min",
        "\N{MINUS SIGN}15 min",
        "now",
    ]
    assert [place for place, _ in layout.times] == [25, 50, 75, 100]


def test_a_bar_tells_its_figures() -> None:
    said = [group.get("data-say") for group in parsed(bars([Bucket(NOW, 1204, 3, 1)], label="x")).iter("g")]
    assert said == ["Nov 29 14:32 UTC  ▲ 1,204 completed  ▼ 3 failed  ● 1 cancelled"]


# small charts


def test_heights_of_a_sparkline() -> None:
    assert heights([0, 5, 10]) == [0.6, 9, 18]
    assert heights([0, 0]) == [0.6, 0.6]
    assert heights([]) == []


def test_a_sparkline_marks_what_is_bad() -> None:
    chart = parsed(sparkline([10, 10], [0, 5]))
    assert [(path.get("class"), path.get("d")) for path in chart.iter("path")] == [
        ("faint", "M0 20v-18h3v18zM4 20v-18h3v18z"),
        ("failed", "M4 20v-9h3v9z"),
    ]
    assert chart.get("aria-label") == "10, 10"


@pytest.mark.parametrize(("part", "whole", "width"), [(1, 4, "25%"), (5, 4, "100%"), (-1, 4, "0%"), (1, 0, "0%")])
def test_a_meter_is_never_more_than_full(part: float, whole: float, width: str) -> None:
    [rect] = parsed(meter(part, whole)).iter("rect")
    assert rect.get("width") == width


def test_a_square_for_each_slot() -> None:
    squares = [rect.get("class") for rect in parsed(slots(2, 3)).iter("rect")]
    assert squares == ["running", "running", "faint soft"]
    assert parsed(slots(3, 25)).get("height") == "27"
    assert parsed(slots(300, 1000)).get("class") == "meter"


def test_the_last_ticks() -> None:
    ticks = [Tick("completed", "ran 3 s")] * 25 + [Tick("failed", HOSTILE)]
    chart = parsed(tick_history(ticks, "19 of 20"))
    assert [rect.get("class") for rect in chart.iter("rect")] == ["completed soft"] * 19 + ["failed"]
    assert [title.text for title in chart.iter("title")][-1] == HOSTILE


# histogram

EDGES = [n * S for n in (0, 1, 2, 4, 8, 16)]


def test_a_histogram_leaves_out_empty_ends() -> None:
    layout = lay_out_histogram([0, 1, 4, 0, 0], EDGES, 2 * S, 4 * S)
    assert [(column.height, column.is_slow) for column in layout.columns] == [(21, False), (84, False)]
    assert layout.marks == [(50, "p50 2.0 s"), (100, "p95 4.0 s")]
    assert [text for _, text in layout.labels] == ["1.0 s", "2.0 s", "4.0 s"]


def test_columns_above_p95_are_marked() -> None:
    layout = lay_out_histogram([1, 0, 0, 0, 1], EDGES, 1 * S, 3 * S)
    assert [column.is_slow for column in layout.columns] == [False, False, False, True, True]


@pytest.mark.parametrize(("time", "place"), [(0, 0), (1, 20), (3, 50), (16, 100), (99, 100)])
def test_places_in_a_histogram(time: float, place: float) -> None:
    assert place_of(time * S, EDGES) == place


def test_no_histogram_without_runs() -> None:
    assert histogram([0, 0], EDGES[:3], None, None) == ""


# the next 24 hours


def test_close_ticks_are_a_band() -> None:
    every_ten = [at(600 * n) for n in range(1, 5)]
    marks = day.lay_out(Line("x", [*every_ten, at(43_200)]), NOW)
    assert marks.dots == [50]
    assert [(round(a, 2), round(b, 2)) for a, b in marks.bands] == [(0.69, 2.78)]


def test_a_band_that_goes_on() -> None:
    marks = day.lay_out(Line("x", [at(60 * n) for n in range(1, 50)], is_cut=True), NOW)
    assert marks.bands[0][1] == 100


def test_no_marks_while_paused_or_later() -> None:
    assert day.lay_out(Line("x", [at(60)], is_paused=True), NOW) == ([], [])
    assert day.lay_out(Line("x", [at(90_000), at(-5)]), NOW) == ([], [])
    assert "paused" in next_day([Line("x", [], is_paused=True)], NOW)


def test_hours_on_the_axis() -> None:
    labels = day.hours(NOW)
    assert [label for _, label in labels] == ["now", "16:00", "20:00", "00:00", "04:00", "08:00", "12:00"]
    assert round(labels[1][0], 2) == 6.1


# the waterfall


def test_phases_are_in_proportion() -> None:
    layout = lay_out([a_try(1, 0, 10, 40, 50), a_try(2, 50, 60, 100)], at(100))
    first, second = layout.rows
    assert first.wait == (0, pytest.approx(SPAN / 10))
    assert first.run == (pytest.approx(SPAN / 10), pytest.approx(0.3 * SPAN))
    assert first.off == (pytest.approx(0.4 * SPAN), pytest.approx(SPAN / 2))
    assert second.wait == (pytest.approx(SPAN / 2), pytest.approx(SPAN / 10))
    assert second.run == (pytest.approx(0.6 * SPAN), pytest.approx(0.4 * SPAN))
    assert (first.text, second.text) == ("ran 30.0 s", "ran 40.0 s")
    assert [label for _, label in layout.labels] == ["14:32:07", "+30 s", "+1 min", "+1:30 min"]


def test_texts_stand_where_there_is_room() -> None:
    early, middle, whole = (
        lay_out([a_try(0, 0, 0, 0), one, a_try(9, 100, 100, 100)], at(100)).rows[1]
        for one in (a_try(1, 0, 0, 40), a_try(1, 50, 50, 90), a_try(1, 0, 0, 100))
    )
    assert (early.anchor, early.text_at) == ("start", pytest.approx(0.4 * SPAN))
    assert (middle.anchor, middle.text_at) == ("end", pytest.approx(SPAN / 2))
    assert (whole.anchor, whole.text_at) == ("start", 0)


@pytest.mark.parametrize(("ran", "is_short"), [(0.4, True), (0.6, False), (0, True)])
def test_short_phases_are_three_pixels(ran: float, is_short: bool) -> None:
    tries = [a_try(1, 0, 0, ran, None, "completed"), a_try(2, 100 - ran, 100 - ran, 100)]
    bar = lay_out(tries, at(100)).rows[0].run
    assert bar is not None
    assert bar.is_short is is_short
    widths = [rect.get("width") for rect in parsed(waterfall(tries, at(100))).iter("rect")]
    assert ("3" in widths) is is_short


@pytest.mark.parametrize(("backed_off", "is_cut"), [(99, False), (100, False), (101, True), (100_000, True)])
def test_a_back_off_over_five_times_the_rest_is_cut(backed_off: float, is_cut: bool) -> None:
    tries = [a_try(1, 0, 0, 10, 10 + backed_off), a_try(2, 10 + backed_off, 10 + backed_off, 20 + backed_off)]
    now = at(20 + backed_off)
    row = lay_out(tries, now).rows[0]
    assert row.is_cut is is_cut
    assert ("//" in waterfall(tries, now)) is is_cut
    if is_cut:  # the rest, 20 s, has four fifths of the width
        assert row.run == (0, pytest.approx(SPAN * 10 / 25))
        assert row.off == (pytest.approx(SPAN * 10 / 25), pytest.approx(SPAN * 15 / 25))


def test_the_axis_goes_on_after_a_cut() -> None:
    layout = lay_out([a_try(1, 0, 0, 10, 3610), a_try(2, 3610, 3610, 3620)], at(3620))
    assert [label for _, label in layout.labels] == [
        "14:32:07",
        "+5 s",
        "+10 s",
        "+1:00:10 h",
        "+1:00:15 h",
        "+1:00:20 h",
    ]
    places = [place for place, _ in layout.labels]
    assert places == sorted(places)


def test_both_of_two_far_longer_back_offs_are_cut() -> None:
    tries = [a_try(1, 0, 0, 1, 100), a_try(2, 100, 100, 101, 10_101), a_try(3, 10_101, 10_101, 10_102)]
    assert [row.is_cut for row in lay_out(tries, at(10_102)).rows] == [False, True, False]
    assert len(make_scale(tries, at(10_102)).cuts) == 1


def test_what_goes_on_ends_now() -> None:
    running = lay_out([a_try(1, 0, 1, None, None, "running")], at(5)).rows[0]
    assert running.run is not None
    assert running.run.x + running.run.width == pytest.approx(SPAN)
    assert running.text == "runs for 4.0 s"
    waiting = lay_out([a_try(1, 0, 1, 2, 3), a_try(2, 3, None)], at(5)).rows[1]
    assert waiting.run is None
    assert waiting.wait == (pytest.approx(0.6 * SPAN), pytest.approx(0.4 * SPAN))
    assert waiting.text == "waits for 2.0 s"


def test_times_that_are_not_known() -> None:
    row = lay_out([a_try(1, None, 0, 5)], at(9)).rows[0]
    assert (row.wait, row.off) == (None, None)
    assert waterfall([], NOW) == ""


def test_a_clock_that_was_set_back_draws_nothing_negative() -> None:
    row = lay_out([a_try(1, 5, 0, -5, -9)], at(9)).rows[0]
    assert row.run is not None
    assert row.run.width == 0
    assert (row.wait, row.off) == (None, None)


def test_the_waterfall_in_words() -> None:
    assert say([a_try(1, 0, 1.2, 35.6, 38.4), a_try(2, 38.4, 38.4)], at(50)) == (
        "Attempt 1 waited 1.2 s and ran 34.4 s, 2.8 s of back-off; attempt 2 runs for 11.6 s"
    )


def test_a_wait_without_a_slot_is_no_back_off() -> None:
    tries = [a_try(1, 0, 0, 10, 60, "parked")._replace(parked="slept"), a_try(2, 60, 60, 70, None, "completed")]
    chart = waterfall(tries, at(70))
    assert "slept for 50.0 s" in chart
    assert "off" not in {line.get("class") for line in parsed(chart).iter("line")}
    assert "wait" in {rect.get("class") for rect in parsed(chart).iter("rect")}
    assert say(tries, at(70)) == "Attempt 1 ran 10.0 s, then slept for 50.0 s; attempt 2 ran 10.0 s"


def test_waits_are_cut_beside_what_ran() -> None:
    """Two of them hide what ran, though neither is far longer than the other."""
    tries = [
        a_try(1, 0, 0, 10, 7210)._replace(parked="slept"),
        a_try(2, 7210, 7210, 7220, 14_420)._replace(parked="waited for a person"),
        a_try(3, 14_420, 14_420, 14_430),
    ]
    layout = lay_out(tries, at(14_430))
    assert [row.is_cut for row in layout.rows] == [True, True, False]
    assert all(row.run is not None and row.run.width > SPAN / 6 for row in layout.rows)
    back_offs = [one._replace(parked="") for one in tries]
    assert [row.is_cut for row in lay_out(back_offs, at(14_430)).rows] == [False, False, False]


# steps


def a_span(name: str, began: float, ended: float | None, kind: SpanKind = "step", colour: str = "completed") -> Span:
    return Span(name, kind, colour, at(began), None if ended is None else at(ended))


def place(moment: datetime) -> float:
    return (moment - NOW).total_seconds()


def test_steps_of_one_name_share_a_row() -> None:
    spans = [a_span("page", 0, 1), a_span("page", 1, 3), a_span("mail", 3, 4), a_span("page", 4, 5)]
    lanes = lanes_of(spans, at(9))
    assert [(lane.name, len(lane.spans)) for lane in lanes] == [("page", 2), ("mail", 1), ("page", 1)]
    assert [say_lane(lane, at(9)) for lane in lanes] == ["2 of page 3.0 s", "mail 1.0 s", "page 1.0 s"]
    rows = lay_out_spans(lanes, place, at(9))
    assert rows[0].bars == [(0, 1), (1, 2)]
    assert rows[2].bars == [(4, 1)]


def test_a_step_that_goes_on_ends_now() -> None:
    [lane] = lanes_of([a_span("cool off", 5, None, "sleep", "pending")], at(9))
    [row] = lay_out_spans([lane], place, at(9))
    assert row.bars == [(5, 4)]
    assert row.text == "cool off for 4.0 s"
    assert lane.is_wait


def test_names_that_take_turns_share_rows_where_there_are_many() -> None:
    spans = [a_span("render" if n % 2 else "fetch", n, n + 1) for n in range(400)]
    lanes = lanes_of(spans, at(400))
    assert [(lane.name, len(lane.spans)) for lane in lanes] == [("fetch", 200), ("render", 200)]
    rows = lay_out_spans(lanes, place, at(400))
    assert [len(row.bars) for row in rows] == [1, 1]  # more than MOST_BARS are one
    assert len(lay_out_spans(lanes_of(spans[:10], at(400)), place, at(400))[0].bars) <= MOST_BARS


@pytest.mark.parametrize("count", [MOST_LANES, MOST_LANES + 1, 100, 3000])
def test_rows_of_steps_are_bounded(count: int) -> None:
    spans = [a_span(f"step {n}", n, n + (9 if n == 7 else 1)) for n in range(count)]
    spans.append(a_span("the last", count, None, colour="running"))
    lanes = lanes_of(spans, at(count + 1))
    assert len(lanes) <= MOST_LANES
    assert sum(len(lane.spans) for lane in lanes) == count + 1
    names = [lane.name for lane in lanes]
    assert "the last" in names
    assert "step 7" in names  # the longest
    if count >= MOST_LANES:
        assert any(name.endswith("other steps") for name in names)
    assert len(waterfall([a_try(1, 0, 0, None)], at(count + 1), spans)) < 40_000


def test_a_row_is_as_bad_as_its_worst_step() -> None:
    good, bad = a_span("page", 0, 1), a_span("page", 1, 2, colour="failed")
    assert lanes_of([good, bad, good], at(9))[0].colour == "failed"


def test_steps_before_the_attempts_shown_are_left_out() -> None:
    chart = waterfall([a_try(9, 100, 100, 110)], at(110), [a_span("early", 0, 9), a_span("late", 101, 102)])
    assert "late" in chart
    assert "early" not in chart


def test_shares_fill_the_bar() -> None:
    rects = list(parsed(shares([("completed", 30), ("failed", 0), ("running", 10)], "x")).iter("rect"))
    assert [(rect.get("class"), rect.get("x"), rect.get("width")) for rect in rects] == [
        ("completed", "0%", "75%"),
        ("running", "75%", "25%"),
    ]
    assert list(parsed(shares([("completed", 0)], "x")).iter("rect")) == []


# all charts

TRIES = [a_try(1, 0, 1, 4, 400), a_try(2, 400, 401, None, None, "running")]
CHARTS = {
    "bars": bars([Bucket(NOW, 4, 2, 1)], label=HOSTILE, readout=HOSTILE),
    "line": line([1, 2, 3]),
    "sparkline": sparkline([1, 2, 3], [0, 1, 0]),
    "meter": meter(1, 2, label=HOSTILE),
    "shares": shares([("completed", 1)], HOSTILE),
    "slots": slots(1, 2),
    "tick_history": tick_history([Tick("open", HOSTILE)], HOSTILE),
    "histogram": histogram([1, 2], EDGES[:3], 1 * S, 2 * S),
    "next_day": next_day([Line(HOSTILE, [at(60)])], NOW),
    "waterfall": waterfall(TRIES, at(420), [Span(HOSTILE, "step", "completed", at(1), at(2), HOSTILE)]),
}


@pytest.mark.parametrize("name", sorted(CHARTS))
def test_charts_are_inert_and_need_no_style(name: str) -> None:
    text = CHARTS[name]
    assert isinstance(text, Markup)
    for tag in parsed(text).iter():
        assert tag.tag in {
            "div",
            "svg",
            "g",
            "rect",
            "line",
            "text",
            "title",
            "polyline",
            "circle",
            "defs",
            "pattern",
            "path",
        }
        assert not {"style", "onload", "onclick", "href"} & set(tag.attrib)
    for drawing in parsed(text).iter("svg"):
        if drawing.get("aria-hidden") is None and drawing.get("class") is not None:
            assert drawing.get("role") == "img"
            assert drawing.get("aria-label")


def test_every_chart_is_tried() -> None:
    from tasker.web import charts  # the package, beside its functions

    functions = {name for name in charts.__all__ if not isinstance(getattr(charts, name), type)}
    assert functions == set(CHARTS)


def test_attributes_are_escaped() -> None:
    assert element("text", "<b>", aria_label='"', x=1.0, y=2.345, dx=None, class_="t") == (
        '<text aria-label="&#34;" x="1" y="2.35" class="t">&lt;b&gt;</text>'
    )


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)
