"""Tests of tasks, and of Tasker itself: a clock moved by hand, drafts, and a driver of an engine's steps.

No test framework is needed, and nothing here sleeps.
"""

from __future__ import annotations

from tasker.testing.clock import START, ManualClock
from tasker.testing.drafts import make_draft, make_key
from tasker.testing.driver import Driver

__all__ = ["START", "Driver", "ManualClock", "make_draft", "make_key"]
