"""The rules of schedules in words."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tasker.web.rule_words import _length, cron_in_words

WORDS = {
    "* * * * *": "Every minute",
    "*/10 * * * *": "Every 10 minutes",
    "*/1 * * * *": "Every minute",
    "0 * * * *": "Hourly",
    "5 * * * *": "Hourly at :05",
    "0 */6 * * *": "Every 6 hours",
    "30 2 * * *": "Daily at 02:30",
    "0 8,12,18 * * *": "Daily at 08:00, 12:00 and 18:00",
    "15 7 * * 1": "Mondays at 07:15",
    "15 7 * * MON,WED": "Mondays and Wednesdays at 07:15",
    "0 8-18 * * 1-5": "Weekdays, hourly from 8 to 18",
    "*/5 * * * 1-5": "Weekdays, every 5 minutes",
    "0 9 * * 6,0": "Weekends at 09:00",
    "0 9 * * 0-6": "Daily at 09:00",
    "0 9 * * 7": "Sundays at 09:00",
    "0 6 1,15 * *": "1st and 15th at 06:00",
    "0 6 2,3,11,22 * *": "2nd, 3rd, 11th and 22nd at 06:00",
    "0 6 L * *": "The last day of the month at 06:00",
    "0 6 1 1 *": "",
    "0 6 1 * 1": "",
    "0 6 * * 1#2": "",
    "1,2 6 * * *": "",
    "0 9-17/2 * * *": "",
    "0 6 */2 * *": "",
    "0 0 * * FRI-MON": "",
}


@pytest.mark.parametrize("rule", WORDS)
def test_cron_in_words(rule: str) -> None:
    assert cron_in_words(rule) == WORDS[rule]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "second"), (90, "90 seconds"), (600, "10 minutes"), (3600, "hour"), (172_800, "2 days"), (1.5, "1.5 seconds")],
)
def test_intervals_in_words(seconds: float, text: str) -> None:
    assert _length(timedelta(seconds=seconds)) == text
