"""Charts as SVG text: pure functions from figures to markup.

They need no script and no style attribute, and use the class names of `static/app.css`. Places are percentages, so that
a chart fits any width.
"""

from tasker.web.charts.bars import Bucket, bars
from tasker.web.charts.day import Line, next_day
from tasker.web.charts.histogram import histogram
from tasker.web.charts.small import Tick, line, meter, shares, slots, sparkline, tick_history
from tasker.web.charts.spans import Span
from tasker.web.charts.waterfall import Try, waterfall

__all__ = [
    "Bucket",
    "Line",
    "Span",
    "Tick",
    "Try",
    "bars",
    "histogram",
    "line",
    "meter",
    "next_day",
    "shares",
    "slots",
    "sparkline",
    "tick_history",
    "waterfall",
]
