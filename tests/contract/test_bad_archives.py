"""Archives as untrusted input: a bad one is refused with its line and stores nothing, any other one works."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.contract.engines import ENGINES
from tests.contract.moving import House, bring, exported, furnish, sealed

from tasker.archive import files as archive
from tasker.engines.protocol import Engine
from tasker.errors import TaskerError
from tasker.testing import ManualClock, make_draft

EXAMPLES = int(os.environ.get("ARCHIVE_EXAMPLES", "40"))
"""Number of examples for each pair of engines; use thousands for a longer run."""
JSON = "(json)"
"""A step of a path: the JSON value in a text."""
HUGE = 10**400
_A_DAY = timedelta(days=1)

NASTY: list[Any] = [
    None, True, False, -1, 0, 1, 2, 3, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64, HUGE, 1.5, -0.5,
    1e308, "", "x", "\0", "a\0b", "\n", "x" * 101, "x" * 300, "x" * 3000, "é", "\U0001f468", " ", "a b",
    "../../etc/hostname", "\0../../etc/hostname", "pending", "running", "completed", "failed", "cancelled",
    "queued", "dependencies", "scheduled", "succeeded", "crashed", "active", "paused", "default",
    "sum", "w", "started", "created", "output",
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59Z", "9999-01-01T00:00:00Z",
    "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "2026-01-01T00:00:00", "2026-01-02T00:00:00Z",
    "2120-01-01T00:00:00Z", "2300-01-01T00:00:00Z", "PT0S", "PT1S", "-PT1S", "P3653D", "P999999999D",
    "[]", "{}", "[1]", "null", "1", '"x"',
    "{", "NaN", '{"a":1,"a":2}', '{"a":"\\u0000"}', '{"a":"\\ud800"}', "[" * 100 + "]" * 100, "[" * 600 + "]" * 600,
    "9" * 2000, "1e999", [], {}, [None], [1], ["x"], ["x"] * 30, {"a": 1}, [[]],
    '{"retry":{"max_attempts":"x"}}', '{"timeout":"x"}', '{"depends_on":["x"]}', '{"fraction":"x"}', '{"type":1}',
    "01a20c8b-c777-7774-af49-131c21b859b2", "00000000-0000-0000-0000-000000000000", "AAAA", "====", "https://example.com/",
    "http://169.254.169.254/", "file:///etc/passwd", "* * * * *", "61 * * * *", "0 0 30 2 *", "Europe/Berlin", "../etc",
]  # fmt: skip


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a line, also within its JSON texts."""
    if path:
        yield path
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            yield from paths_of(json.loads(value), (*path, JSON))
        except ValueError:
            return
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from paths_of(one, (*path, name))
    elif isinstance(value, list):
        for place, one in enumerate(value):
            yield from paths_of(one, (*path, place))


def changed(value: Any, path: Sequence[Any], do: Any) -> Any:
    """Return a copy in which `do(container, key)` was done at a place."""
    value = deepcopy(value)
    if path[0] == JSON:
        if len(path) == 1:
            box = {"v": value}
            do(box, "v")
            return box.get("v", "")
        return _written(changed(json.loads(value), path[1:], do))
    if len(path) == 1:
        do(value, path[0])
    else:
        value[path[0]] = changed(value[path[0]], path[1:], do)
    return value


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def line_of(value: Any) -> bytes:
    return _written(value).encode("utf-8", "surrogatepass") + b"\n"


class Spoilt(list[bytes]):
    """Lines of a changed archive; its repr shows only those that differ from the original."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        super().__init__(lines)
        self._before = frozenset(lines)

    def __repr__(self) -> str:
        return f"{[(place, line) for place, line in enumerate(self) if line not in self._before]}"[:5000]


@st.composite
def spoilt(draw: st.DrawFn, lines: Sequence[bytes]) -> Spoilt:
    """Return the header and items of an archive with a few things changed in it."""
    lines = Spoilt(lines)
    for _ in range(draw(st.integers(1, 2))):
        number = draw(st.integers(1, len(lines) - 1))
        if draw(st.booleans()):  # tasks are what it is about
            number = draw(
                st.sampled_from([at for at in range(1, len(lines)) if b'"task_id":' in lines[at][:20]] or [number])
            )
        how = draw(
            st.sampled_from(["set"] * 12 + ["other"] * 3 + ["drop"] * 2 + ["add", "twice", "swap", "cut", "byte"])
        )
        if how in ("twice", "swap"):
            other = draw(st.integers(1, len(lines) - 1))
            taken = lines[number] if how == "twice" else lines.pop(number)
            lines.insert(other, taken)
        elif how in ("cut", "byte"):
            place = draw(st.integers(0, len(lines[number]) - 2))
            end = b"\n" if how == "cut" else bytes([draw(st.integers(0, 255))]) + lines[number][place + 1 :]
            lines[number] = lines[number][:place] + end
        else:
            lines[number] = line_of(draw(_changes(json.loads(lines[number]), how, lines)))
        if how in ("cut", "byte"):  # it is no JSON any more: enough
            break
    return lines


HOW = ["set"] * 12 + ["other"] * 3 + ["drop"] * 2 + ["add", "twice", "swap", "cut", "byte"]
TENDER = (
    "status", "reason", "policy", "error", "progress", "extra", "result", "params", "metadata", "usage", "tags",
    "worker", "ending", "due_at", "started_at", "finished_at", "created_at", "attempt", "attempts", "keys", "data",
)  # fmt: skip
"""Critical fields that a store would keep unchecked."""


@st.composite
def _changes(draw: st.DrawFn, item: Any, how: str, lines: Sequence[bytes]) -> Any:
    paths = list(paths_of(item))
    tender = [path for path in paths if path[-1] in TENDER and len(path) == 1]
    path = draw(st.sampled_from(tender if tender and draw(st.booleans()) else paths))
    if how == "other":  # what stands there in another line
        return _from_another(draw, item, path, lines)
    texts = [one for one in NASTY if isinstance(one, str)]
    is_text = len(path) == 1 and path[0] in TENDER
    value = draw(st.sampled_from(texts if is_text and draw(st.booleans()) else NASTY))

    def do(container: Any, key: Any) -> None:
        if how == "set":
            container[key] = value
        elif how == "drop":
            del container[key]
        elif isinstance(container, dict):
            container["surprise"] = value
        else:
            container.append(value)

    return changed(item, path, do)


def _from_another(draw: st.DrawFn, item: Any, path: Sequence[Any], lines: Sequence[bytes]) -> Any:
    donors = [json.loads(line) for line in lines[1:] if line.startswith(b"{")]
    donor = draw(st.sampled_from([one for one in donors if path[0] in one] or [item]))
    return {**item, path[0]: donor.get(path[0])}


class Pair:
    """A real archive of one engine, and a store of another that it goes to, which has a task of its own."""

    def __init__(self, source: str, target: str) -> None:
        self._target = target
        self._runner = asyncio.Runner()
        self._engine: Engine | None = None
        self.lines = self._runner.run(_archive_of(source))
        self.accepted = self.refused = 0
        self.said: TaskerError | None = None

    def try_out(self, lines: Sequence[bytes]) -> None:
        self._runner.run(self._try_out(lines))

    async def _try_out(self, lines: Sequence[bytes]) -> None:
        if self._engine is None:
            self._folder, self._clock = Path(mkdtemp()), ManualClock()
            self._opening = ENGINES[self._target](self._folder, self._clock)
            self._engine = await self._opening.__aenter__()
            await self._engine.submit([make_draft(self._clock.now(), type="mine")])
        before = await exported(self._engine)
        refusal = await bring(self._engine, lines, self._clock)
        if refusal is not None:
            self.refused, self.said = self.refused + 1, refusal
            assert_told(refusal)
            assert await exported(self._engine) == before
            return
        self.accepted += 1
        await self._live_on()

    async def _live_on(self) -> None:
        assert self._engine is not None
        await self._engine.close()
        self._engine = None
        async with ENGINES[self._target](self._folder, self._clock) as engine:
            house = House(engine, self._clock)
            try:
                await house.look_at_all(ended=False)
                await house.run_all()
                self._clock.advance(_A_DAY)
                await house.run_all()
                await house.look_at_all(ended=True)
                archive.check(await exported(engine), clock=self._clock)
                while await engine.prune(limit=1000):
                    pass
            finally:
                await house.close()

    def close(self) -> None:
        if self._engine is not None:
            self._runner.run(self._engine.close())
        self._runner.close()


def assert_told(refusal: TaskerError) -> None:
    """Check that a refusal says where the fault is and what to do."""
    words = str(refusal)
    assert words.startswith(("line ", "the archive ")), words
    assert any(advice in words for advice in ("again", "delete", "upgrade", "rename", "zcat")), words
    assert len(words) < 2000


async def _archive_of(source: str) -> list[bytes]:
    clock = ManualClock()
    async with ENGINES[source](Path(mkdtemp()), clock) as engine:
        await furnish(engine, clock)
        lines = await exported(engine)
    return lines[:-1]


@pytest.mark.long
@pytest.mark.timeout(1200 if EXAMPLES > 100 else 180)
@pytest.mark.parametrize("target", sorted(ENGINES))
@pytest.mark.parametrize("source", sorted(ENGINES))
def test_a_changed_archive_is_refused_or_still_works(source: str, target: str) -> None:
    pair = Pair(source, target)

    @settings(
        max_examples=EXAMPLES, deadline=None, print_blob=True, database=None,
        phases=(Phase.explicit, Phase.generate),  # to shrink an example takes minutes
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )  # fmt: skip
    @given(spoilt(pair.lines))
    def run(lines: list[bytes]) -> None:
        pair.try_out(sealed(lines))

    try:
        pair.try_out(sealed(pair.lines))
        assert pair.accepted == 1, f"what nobody has changed is taken: {pair.said}"
        run()
    finally:
        pair.close()
    print(f"{pair.accepted} accepted, {pair.refused} refused")
