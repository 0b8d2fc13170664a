"""tasker.archive.files with an unreliable store: what was stored is read back and compared."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from uuid import UUID

import pytest
from msgspec import structs
from tests.unit.test_stored import COMPLETED, PENDING

from tasker.archive import files as archive
from tasker.errors import ArchiveError, Conflict
from tasker.model.archive import StoredRecord, StoredTask

Tamper = Callable[[StoredTask], StoredTask | None]


class Shelf:
    """An ArchiveStore in memory. tamper: changes a task after it was stored."""

    def __init__(self, tamper: Tamper = lambda task: task) -> None:
        self.tasks: dict[UUID, StoredTask | None] = {}
        self._tamper = tamper

    async def read(self, *, at_once: int, size: int) -> AsyncGenerator[list[StoredRecord] | list[StoredTask]]:
        yield [task for task in self.tasks.values() if task is not None]

    async def put(self, tasks: Sequence[StoredTask], *, rehearsal: bool = False) -> int:
        new = [task for task in tasks if task.task_id not in self.tasks]
        self.tasks |= {task.task_id: self._tamper(task) for task in new}
        return len(new)

    async def put_records(self, records: Sequence[StoredRecord], *, rehearsal: bool = False) -> int:
        raise NotImplementedError

    async def find_records(self, records: Sequence[StoredRecord]) -> list[StoredRecord | None]:
        raise NotImplementedError

    async def find_many(self, task_ids: Sequence[UUID]) -> list[StoredTask | None]:
        return [self.tasks.get(task_id) for task_id in task_ids]

    async def find_erased(self, _: Sequence[UUID]) -> set[UUID]:
        return set()


async def lines_of(*tasks: StoredTask) -> list[bytes]:
    shelf = Shelf()
    await shelf.put([_numbered(task, number) for number, task in enumerate(tasks)])
    return [line async for line in archive.write(shelf)]


def _numbered(task: StoredTask, number: int) -> StoredTask:
    """Return a task that may be in one archive with others like it."""
    keys = [structs.replace(key, key=f"{key.key}{number}") for key in task.keys]
    return structs.replace(task, task_id=UUID(int=number), keys=keys)


async def test_an_import_counts_what_is_new_known_and_further_on() -> None:
    shelf = Shelf(lambda task: structs.replace(COMPLETED, task_id=task.task_id, keys=task.keys))
    lines = await lines_of(PENDING, COMPLETED)
    assert await archive.read(shelf, lines) == archive.Imported(2, 0, 1)
    assert await archive.read(shelf, lines) == archive.Imported(0, 2, 1)


@pytest.mark.parametrize(
    "tamper", [lambda _: None, lambda task: structs.replace(task, result="2"), lambda _: PENDING],
    ids=["deleted", "changed", "another"],
)  # fmt: skip
async def test_a_task_that_was_not_stored_is_reported(tamper: Tamper) -> None:
    with pytest.raises(Conflict, match="has been deleted or changed since: import again"):
        await archive.read(Shelf(tamper), await lines_of(COMPLETED))


async def test_a_line_that_reads_back_differently_is_reported() -> None:
    """Even if its digest is right: the digest of what is stored would differ."""
    head, line, _ = await lines_of(COMPLETED)
    spaced = line.replace(b'":', b'": ')
    tally = archive._Tally()
    tally.add(spaced.rstrip(b"\n"), COMPLETED)
    shelf = Shelf()
    with pytest.raises(Conflict, match="of it was stored here"):
        await archive.read(shelf, [head, spaced, archive._encode(tally.trailer) + b"\n"])


async def test_a_pipe_that_breaks_leaves_what_came_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "AT_ONCE", 2)
    lines, shelf = await lines_of(*[COMPLETED] * 5), Shelf()
    with pytest.raises(ArchiveError, match=r"ends after 4 tasks .* export again"):
        await archive.read(shelf, lines[:5])
    assert len(shelf.tasks) == 4
    assert await archive.read(shelf, lines) == archive.Imported(1, 4, 0)


class Narrow(Shelf):
    """Accepts each task alone, but no two together."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self._error = error

    async def put(self, tasks: Sequence[StoredTask], *, rehearsal: bool = False) -> int:
        if len(tasks) > 1:
            raise self._error("too narrow")
        return len(tasks)


@pytest.mark.parametrize("error", [ArchiveError, Conflict])
async def test_a_fault_of_several_lines_names_them(error: type[Exception], monkeypatch) -> None:
    lines = await lines_of(*[COMPLETED] * 5)
    monkeypatch.setattr(archive, "AT_ONCE", 3)
    with pytest.raises(error, match=r"^lines 2 to 4, which cannot be stored together: too narrow.*nothing of the arch"):
        await archive.rehearse(Narrow(error), lines)


class Moody(Shelf):
    """Refuses a task at first, and accepts it when it is tried again."""

    asked = 0

    async def put(self, tasks: Sequence[StoredTask], *, rehearsal: bool = False) -> int:
        self.asked += 1
        if self.asked == 1:
            raise Conflict("not now")
        return len(tasks)


async def test_the_only_line_of_a_batch_is_named_too() -> None:
    with pytest.raises(Conflict, match=r"^line 2: not now \(nothing of the archive was stored\)$"):
        await archive.rehearse(Moody(), await lines_of(COMPLETED))
