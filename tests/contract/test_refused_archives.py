"""Bad archives made by hand, one for each possible fault: the error names the line and the place."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from msgspec import json
from tests.contract.engines import ENGINES
from tests.contract.moving import bring, exported, furnish, sealed
from tests.contract.test_bad_archives import HUGE, assert_told, line_of

from tasker.archive import files as archive
from tasker.engines.shared.tables import SHAPES, USAGE
from tasker.errors import ArchiveError, Conflict
from tasker.rules.urls import UrlRules
from tasker.testing import ManualClock

Item = dict[str, Any]
OTHER_ID = "01a20c8b-c777-7774-af49-131c21b859b2"
QUEUE = b'{"kind":"record","record":"queue","key":"q","data":%b}\n'


@cache
def good() -> list[bytes]:
    """The header and items of a real archive."""

    async def make() -> list[bytes]:
        clock = ManualClock()
        async with ENGINES["sqlite"](Path(mkdtemp()), clock) as engine:
            await furnish(engine, clock)
            lines = await exported(engine)
        return lines[:-1]

    return asyncio.run(make())


@pytest.fixture(autouse=True, scope="module")
def _made() -> None:
    """Make it where no loop runs yet."""
    good()


def _is(item: Item, which: str) -> bool:
    return item.get("type") == which or item.get("status") == which or item.get("record") == which


def find(which: str) -> int:
    """Return the index of the first line with a task of a type or status, or with a record of a kind."""
    found = [place for place, line in enumerate(good()) if place and _is(json.decode(line), which)]
    return found[-1] if which == "webhook" else found[0]  # the first one came with a task, and has no secret


def changed(which: str, change: Callable[[Item], object]) -> tuple[list[bytes], int]:
    """Return the archive with a change in that line, and the line's number."""
    lines, place = list(good()), find(which)
    item = json.decode(lines[place])
    change(item.get("data", item))
    lines[place] = line_of(item)
    return sealed(lines), place + 1


def has(**fields: Any) -> Callable[[Item], object]:
    return lambda item: item.update(fields)


def within(name: str, **fields: Any) -> Callable[[Item], object]:
    """Change what a field holds: an object, the first of an array, or JSON text."""

    def change(item: Item) -> None:
        inner = item[name]
        if isinstance(inner, str):
            inner = json.decode(inner)
            inner.update(fields)
            item[name] = json.encode(inner).decode()
        else:
            (inner[0] if isinstance(inner, list) else inner).update(fields)

    return change


TASKS: list[tuple[str, Callable[[Item], object], str]] = [
    ("plain", has(policy='{"retry":{"max_attempts":"x"}}'), "/policy"), ("plain", has(policy="[]"), "/policy"),
    ("plain", has(policy="{"), "/policy"), ("plain", has(policy='{"a":1}'), "/policy"),
    ("plain", has(policy='{"retry":{"max_attempts":0}}'), "/policy/retry/max_attempts"),
    ("plain", has(policy='{"retry":{"factor":1e309}}'), "/policy"),
    ("plain", has(policy='{"timeout":"-PT1S"}'), "/policy/timeout"),
    ("plain", has(policy='{"on_crash":"x"}'), "/policy"), ("plain", has(status="never"), "/status"),
    ("plain", has(status=""), "/status"), ("plain", has(reason="x"), "/reason"),
    ("odd", has(result="\0../../etc/hostname"), "/result"), ("odd", has(result="\0"), "/result"),
    ("odd", has(result="{"), "/result"), ("odd", has(result=""), "/result"), ("odd", has(result="NaN"), "/result"),
    ("odd", has(result="[" * 600 + "]" * 600), "/result"), ("odd", has(result='{"a":1,"a":2}'), "/result"),
    ("odd", has(result="/etc/hostname"), "/result"), ("plain", has(type=""), "/type"),
    ("plain", has(type="a b"), "/type"), ("plain", has(type="a\0"), "/type"), ("plain", has(queue="a/b"), "/queue"),
    ("plain", has(queue=""), "/queue"), ("plain", has(queue="q\n"), "/queue"), ("plain", has(owner="a\0"), "/owner"),
    ("plain", has(owner="x" * 101), "/owner"), ("plain", has(owner="a\tb"), "/owner"),
    ("odd", has(tags=["\0"]), "/tags/0"), ("odd", has(tags=[""]), "/tags/0"), ("odd", has(tags=["x"] * 21), "/tags"),
    ("odd", has(tags=[1]), "tags"), ("plain", has(unique_key="\0"), "/unique_key"),
    ("plain", has(concurrency_key=""), "/concurrency_key"), ("plain", has(task_id="x"), "task_id"),
    ("running", has(worker="a\nb"), "/worker"), ("plain", has(priority=2**63), "priority"),
    ("plain", has(priority=2**31), "/priority"), ("plain", has(attempt=HUGE), "attempt"),
    ("plain", has(attempt=-1), "/attempt"), ("plain", has(tries=2**63), "tries"),
    ("plain", has(max_attempts=0), "/max_attempts"), ("plain", has(sequence=2**31), "/sequence"),
    ("plain", has(weight=0), "/weight"), ("plain", has(priority=1.5), "priority"),
    ("plain", has(peak_memory=-1), "/peak_memory"), ("plain", has(peak_memory=2**64), "peak_memory"),
    ("plain", has(retention="P999999999D"), "/retention"), ("plain", has(retention="-PT1S"), "/retention"),
    ("plain", has(created_at="0001-01-01T00:00:00Z"), "/created_at"),
    ("plain", has(created_at="0001-01-01T00:00:00+23:59"), "from the year 1"),
    ("plain", has(created_at="2026-01-01T00:00:00"), "a time with a zone"),
    ("plain", has(created_at="9999-12-31T23:59:59Z"), "/created_at"),
    ("plain", has(due_at="1960-01-01T00:00:00Z"), "/due_at"), ("plain", has(due_at="9999-01-01T00:00:00Z"), "/due_at"),
    ("plain", has(run_at="2500-01-01T00:00:00Z"), "/run_at"),
    ("plain", has(deadline="9999-12-31T00:00:00Z"), "/deadline"), ("plain", has(created_at=5), "created_at"),
    ("plain", has(params='{"a":"\\u0000"}'), "/params"), ("plain", has(params="[" * 65 + "]" * 65), "/params"),
    ("plain", has(params='["\\ud800"]'), "/params"), ("plain", has(params="[1e999]"), "/params"),
    ("plain", has(params="[%s]" % ("9" * 1001)), "/params"), ("plain", has(params='{"a":1,"a":2}'), "/params"),
    ("plain", has(params="[%s1]" % ("1," * 100_000)), "/params"), ("plain", has(params=""), "/params"),
    ("plain", has(metadata="[]"), "/metadata"), ("plain", has(metadata='{"a":"%s"}' % ("x" * 17_000)), "/metadata"),
    ("plain", has(usage="1"), "/usage"), ("plain", has(progress="[]"), "/progress"),
    ("plain", has(progress='{"fraction":2}'), "/progress/fraction"), ("failed", has(error="{}"), "/error"),
    ("failed", has(error='"x"'), "/error"), ("plain", has(extra='{"depends_on":["x"]}'), "/extra"),
    ("plain", has(extra='{"surprise":1}'), "/extra"), ("plain", has(extra="[]"), "/extra"),
    ("plain", has(extra='{"webhook":{"webhook_id":"' + OTHER_ID + '","url":"x","events":[]}}'), "/extra"),
    ("running", has(finished_at="2026-01-02T00:00:00Z"), "/finished_at"), ("running", has(worker=None), "/worker"),
    ("running", has(started_at=None), "/worker"), ("running", has(result="1"), "/result"),
    ("running", has(reason="queued"), "/reason"), ("running", has(attempts=[]), "/attempts"),
    ("running", has(attempt=0), "/attempts"), ("odd", has(result=None), "/result"),
    ("odd", has(ending="failed"), "/ending"), ("odd", has(finished_at=None), "/finished_at"),
    ("odd", has(worker=None), "/worker"), ("odd", has(status="failed"), "/error"),
    ("odd", has(status="pending", reason="queued"), "/worker"), ("failed", has(error=None), "/error"),
    ("failed", has(result="1"), "/result"), ("failed", has(ending="succeeded"), "/ending"),
    ("plain", has(status="completed", reason=None), "/worker"),
    ("plain", has(status="running", reason=None), "/worker"), ("plain", has(reason=None), "/reason"),
    ("plain", has(expires_at="2026-02-01T00:00:00Z"), "/expires_at"),
    ("plain", has(cancel_requested_at="2026-01-02T00:00:00Z"), "/cancel_requested_at"),
    ("running", within("attempts", attempt=2), "/attempts"), ("running", within("attempts", attempt=0), "/attempts"),
    ("running", within("attempts", ending="x"), "/attempts/0/ending"),
    ("running", within("attempts", error="{}"), "/attempts/0/error"),
    ("running", within("attempts", worker=""), "/attempts/0/worker"),
    ("running", within("attempts", surprise=1), "surprise"), ("odd", within("events", type="x"), "/events/0/type"),
    ("odd", within("events", type="created"), "/events/0/type"), ("odd", within("events", data="[]"), "/events/0/data"),
    ("odd", within("events", data="{"), "/events/0/data"), ("odd", within("events", sequence=1), "/events/0/sequence"),
    ("odd", within("events", sequence=2**63), "sequence"), ("odd", within("events", attempt=9), "/events/0/attempt"),
    ("odd", lambda item: item["events"].reverse(), "/events/1/sequence"),
    ("odd", lambda item: item["events"].append(item["events"][0]), "/events/2/sequence"),
    ("odd", within("keys", key=""), "/keys/0/key"), ("odd", within("keys", key="\0"), "/keys/0/key"),
    ("odd", within("keys", reply="{}"), "/keys/0/reply"), ("odd", within("keys", reply="x"), "/keys/0/reply"),
    ("odd", within("keys", fingerprint="!"), "fingerprint"),
    ("odd", lambda item: item["keys"].append(item["keys"][0]), "each idempotency key once"),
    ("plain", has(surprise=1), "surprise"), ("plain", lambda item: item.pop("params"), "params"),
    ("plain", has(kind="task"), "kind"), ("plain", has(tags=None), "tags"),
    ("plain", has(has_dependants=1), "has_dependants"),
]  # fmt: skip
RECORDS: list[tuple[str, Callable[[Item], object], str]] = [
    ("schedule", has(cron="61 * * * *", interval=None), "/cron"), ("schedule", has(interval=None), "/cron"),
    ("schedule", has(cron="* * * * *", interval="PT1M"), "/cron"),
    ("schedule", has(interval="PT0S", cron=None), "/interval"),
    ("schedule", has(interval="-PT1M", cron=None), "/interval"),
    ("schedule", has(time_zone="../etc/passwd"), "/time_zone"),
    ("schedule", has(anchor="0001-01-01T00:00:00Z"), "/anchor"),
    ("schedule", has(next_fire_at="9999-12-31T00:00:00Z"), "/next_fire_at"),
    ("schedule", has(paused=True), "/next_fire_at"), ("schedule", has(name=""), "/name"),
    ("schedule", has(version=2**63), "version"), ("schedule", has(type="reverse"), "/task/type"),
    ("schedule", has(task=[]), "/task"), ("schedule", within("task", type=None), "/task/type"),
    ("schedule", within("task", params=1), "/task/params"), ("schedule", within("task", priority=HUGE), "/task"),
    ("schedule", within("task", surprise=1), "/task/surprise"),
    ("schedule", within("task", run_at="2026-02-01T00:00:00Z"), "/task/run_at"),
    ("schedule", has(recent=["x"]), "recent"),
    ("schedule", has(missed="x"), "missed"), ("schedule", has(surprise=1), "surprise"),
    ("schedule", has(last_skip={"tick": "x", "reason": "missed"}), "last_skip"),
    ("webhook", has(url="http://169.254.169.254/latest"), "/url"), ("webhook", has(url="https://127.0.0.1/"), "/url"),
    ("webhook", has(url="file:///etc/passwd"), "/url"), ("webhook", has(url="https://u:p@example.com/"), "/url"),
    ("webhook", has(url=""), "/url"), ("webhook", has(events=[]), "/events"), ("webhook", has(events=["x"]), "/events"),
    ("webhook", has(status="x"), "status"), ("webhook", within("secrets", secret="whsec_x"), "/secrets/0/secret"),
    ("webhook", has(tag=""), "/tag"), ("webhook", has(type="a b"), "/type"), ("webhook", has(queue="/"), "/queue"),
    ("webhook", has(owner="\0"), "/owner"), ("webhook", has(format="x"), "format"),
    ("webhook", has(failing_since="0001-01-01T00:00:00Z"), "/failing_since"),
    ("webhook", within("secrets", surprise=1), "surprise"), ("webhook_delivery", has(status="delivered"), "/status"),
    ("webhook_delivery", has(event="x"), "/event"), ("webhook_delivery", has(sequence=2**63), "sequence"),
    ("webhook_delivery", has(lane="\0"), "/lane"), ("webhook_delivery", has(tries=9), "/tries"),
    ("api_key", has(digest="AAAA"), "/digest"), ("api_key", has(scopes=[]), "/scopes"),
    ("api_key", has(scopes=["root"]), "scopes"), ("api_key", has(scopes=["read", "read"]), "/scopes"),
    ("api_key", has(owner=""), "/owner"), ("api_key", has(rate=0), "/rate"), ("api_key", has(burst=None), "/burst"),
    ("api_key", has(daily_budget=-1), "/daily_budget"), ("api_key", has(name="a\0"), "/name"),
    ("api_key", has(created_at="9999-12-31T23:59:59Z"), "/created_at"), ("queue", has(concurrency=0), "/concurrency"),
    ("queue", has(concurrency=HUGE), "concurrency"),
    ("queue", has(rate={"limit": 0, "per": "PT1S", "burst": 1}), "/rate/limit"),
    ("queue", has(rate={"limit": 1, "per": "PT0S", "burst": 1}), "/rate/per"), ("queue", has(paused=1), "paused"),
    ("usage", within("row", attempts=2**60), "attempts"), ("usage", within("row", day="0001-01-01"), "name"),
    ("usage", within("row", type=None), "name"),
]  # fmt: skip


async def refused(lines: list[bytes], folder: Path, clock: ManualClock) -> str:
    """Return what an import says that changes nothing."""
    async with ENGINES["sqlite"](folder, clock) as engine:
        before = await exported(engine)
        refusal = await bring(engine, lines, clock)
        assert refusal is not None, "it is taken"
        assert_told(refusal)
        assert await exported(engine) == before
        return str(refusal)


@pytest.mark.parametrize(
    "number", range(len(TASKS) + len(RECORDS)), ids=lambda number: "-".join([*TASKS, *RECORDS][number][::2])
)
async def test_faults_name_the_line_and_the_field(tmp_path: Path, clock: ManualClock, number: int) -> None:
    which, change, where = [*TASKS, *RECORDS][number]
    lines, line = changed(which, change)
    told = await refused(lines, tmp_path, clock)
    assert told.startswith(f"line {line}: expected a "), told
    assert where in told


def _again(which: str) -> list[bytes]:
    lines = list(good())
    return sealed([*lines, lines[find(which)]])


def _like(which: str, **fields: Any) -> list[bytes]:
    """Return the archive with one more line like another, but for these fields."""
    lines = list(good())
    item = json.decode(lines[find(which)])
    inner = item.get("data", item)
    inner.update(fields)
    if "data" in item:
        item["key"] = next(iter(fields.values()))
    return sealed([*lines, line_of(item)])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: _again("plain"), "expected each task once"),
        (lambda: _again("schedule"), "expected each schedule once"),
        (lambda: _again("api_key"), "expected each api_key once"),
        (lambda: _again("usage"), "expected each usage once"),
        (lambda: _like("odd", task_id=OTHER_ID), "expected each idempotency key once"),
        (lambda: _like("schedule", schedule_id=OTHER_ID), "expected each schedule of an owner by its name once"),
        (lambda: _like("webhook_delivery", delivery_id=OTHER_ID), "expected each delivery of an event to"),
    ],
    ids=["task", "schedule", "key", "usage", "idempotency key", "name", "delivery"],
)  # fmt: skip
async def test_duplicates_are_reported(tmp_path: Path, clock: ManualClock, make, why: str) -> None:
    told = await refused(make(), tmp_path, clock)
    assert told.startswith(f"line {len(good()) + 1}: ")
    assert why in told


def test_an_open_task_has_its_unique_key_alone() -> None:
    lines = list(good())
    place = next(place for place, line in enumerate(lines) if b'"unique_key":"u"' in line)
    item = json.decode(lines[place])
    with pytest.raises(ArchiveError, match=rf"line {len(lines) + 1}: .*open task with the unique_key once, got 'u'"):
        archive.check(sealed([*lines, line_of({**item, "task_id": OTHER_ID, "keys": []})]), clock=ManualClock())


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"kind":"record","record":"tombstone","key":"x","data":{}}\n', "expected one of api_key, queue"),
        (b'{"kind":"record","record":"audit","key":"x","data":{}}\n', "expected one of api_key, queue"),
        (b'{"kind":"record","record":"journal","key":"x","data":{}}\n', "upgrade, then import"),
        (b'{"kind":"surprise"}\n', "expected a task"), (b"\n", "expected a task"), (b"null\n", "expected a task"),
        (b"\xff\xfe\n", "expected a task"), (b"[" * 100_000 + b"\n", "expected a task"),
        (QUEUE % (b"[" * 100_000), "expected a record"),
        (QUEUE % (b'{"name":"q","surprise":%b1}' % (b"[" * 50_000)), "expected a record"),
        (QUEUE % b'{"name":"p"}', "expected its content to have this key"),
    ],
)  # fmt: skip
async def test_a_line_that_is_no_item_is_reported(tmp_path: Path, clock: ManualClock, line: bytes, why: str) -> None:
    told = await refused(sealed([*good(), line]), tmp_path, clock)
    assert re.match(rf"line {len(good()) + 1}: expected a (task|record): ", told)
    assert why in told


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda line: line.replace(b'":', b'": '), lambda line: line.replace(b'"type":', b'"type":"sum","type":'),
        lambda line: line.replace(b"\n", b" \n"),
        lambda line: line_of(dict(reversed(json.decode(line).items()))),
    ],
    ids=["blanks", "twice", "end", "order"],
)  # fmt: skip
async def test_a_line_in_another_form_than_an_exports_is_refused(tmp_path: Path, clock: ManualClock, rewrite) -> None:
    lines, place = list(good()), find("later")
    lines[place] = rewrite(lines[place])
    told = await refused(sealed(lines), tmp_path, clock)
    assert told.startswith(f"line {place + 1}: expected it as `tasker export` writes it")


async def test_an_older_archive_lacks_fields(tmp_path: Path, clock: ManualClock) -> None:
    """Newer fields have defaults, and the digest is that of the lines as they are."""
    lines = list(good())
    for place, line in enumerate(lines[1:], start=1):
        if not line.startswith(archive._RECORD):
            item = json.decode(line)
            item.pop("peak_memory")
            for attempt in item["attempts"]:
                attempt.pop("peak_memory")
            lines[place] = line_of(item)
    async with ENGINES["sqlite"](tmp_path, clock) as engine:
        assert await bring(engine, sealed(lines), clock) is None


@pytest.mark.parametrize(
    ("start", "program"), [(b"\x1f\x8b\x08\0", "zcat"), (b"PK\x03\x04", "unzip"), (b"\x28\xb5\x2f\xfd", "zstdcat")]
)
def test_a_compressed_archive_is_known(start: bytes, program: str) -> None:
    with pytest.raises(ArchiveError, match=rf"line 1: .*compressed file: `{program}"):
        archive.check([start + b"rest\n"])


def test_a_line_is_never_read_beyond_its_limit() -> None:
    """A decompressor may send without end, and no line end comes."""

    class Endless(BytesIO):
        most = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            self.most = max(self.most, size)
            return b"x" * size

    file = Endless()
    with pytest.raises(ArchiveError, match=r"line 1: expected at most 1 MiB, .*--max-line"):
        list(archive.lines_of(file, 1 << 20))
    assert file.most == (1 << 20) + 1


async def test_rules_for_urls_are_those_of_the_store(clock: ManualClock) -> None:
    lines, line = changed("webhook", has(url="http://10.0.0.1:8080/hook"))
    archive.check(lines, clock=clock, rules=UrlRules(insecure=True))
    with pytest.raises(ArchiveError, match=rf"line {line}: .*TASKER_WEBHOOK_INSECURE"):
        archive.check(lines, clock=clock, rules=UrlRules())


def test_every_kind_of_record_is_vetted() -> None:
    """A new one needs a case of its own."""
    assert {which for which, _, _ in RECORDS} == {shape.name for shape in (*SHAPES, USAGE)}


@pytest.fixture(params=sorted(ENGINES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_conflicts_are_found_before_anything_is_stored(tmp_path: Path, name: str, monkeypatch) -> None:
    """It is in the last line: every line before it would have been stored."""
    monkeypatch.setattr(archive, "AT_ONCE", 3)
    clock = ManualClock()
    async with ENGINES[name](tmp_path, clock) as engine:
        lines = list(good())
        assert await bring(engine, sealed([lines[0], lines[-1]]), clock) is None
        before = await exported(engine)
        item = json.decode(lines[-1])
        refusal = await bring(engine, sealed([*lines[:-1], line_of({**item, "params": "[7]"})]), clock)
        assert isinstance(refusal, Conflict)
        assert str(refusal).startswith(f"line {len(lines)}: task {item['task_id']} is stored with other content")
        assert await exported(engine) == before
        assert await bring(engine, sealed(lines), clock) is None


async def test_a_unique_key_taken_in_the_store_is_reported(tmp_path: Path, name: str) -> None:
    clock = ManualClock()
    async with ENGINES[name](tmp_path, clock) as engine:
        line = next(line for line in good() if b'"unique_key":"u"' in line)
        other = line_of({**json.decode(line), "task_id": OTHER_ID, "keys": []})
        assert await bring(engine, sealed([good()[0], line]), clock) is None
        before = await exported(engine)
        refusal = await bring(engine, sealed([good()[0], other]), clock)
        assert isinstance(refusal, Conflict)
        assert str(refusal).startswith("line 2: another task here has its unique_key")
        assert await exported(engine) == before


async def test_a_large_result_is_rehearsed_without_a_file(tmp_path: Path) -> None:
    clock = ManualClock()
    async with ENGINES["sqlite"](tmp_path, clock) as engine:
        lines, _ = changed("odd", has(result='"%s"' % ("x" * 300_000)))
        await archive.rehearse(engine.archive, lines, clock=clock)
        assert not (tmp_path / "data" / "results").exists()
        assert await bring(engine, lines, clock) is None
        assert len(list((tmp_path / "data" / "results").iterdir())) == 1
