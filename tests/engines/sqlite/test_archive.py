"""Records of an archive that SQLite refuses."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
from tests.contract.engines import ENGINES

from tasker.errors import ArchiveError
from tasker.model.archive import StoredRecord, StoredTask
from tasker.model.queues import QueueChange
from tasker.testing import ManualClock


@pytest.mark.parametrize(("rehearsal", "expected"), [(True, ArchiveError), (False, apsw.ConstraintError)])
async def test_a_refused_record_does_not_stop_the_import(
    tmp_path: Path, rehearsal: bool, expected: type[Exception]
) -> None:
    async with ENGINES["sqlite"](tmp_path, ManualClock()) as engine:
        await engine.queues.change("q", QueueChange(paused=True))
        records: list[StoredRecord] = []
        async for some in engine.archive.read(at_once=9, size=1 << 20):
            records += [one for one in some if not isinstance(one, StoredTask)]
        await engine.queues.change("q", QueueChange(paused=False))
        with apsw.Connection(str(next(tmp_path.rglob("*.db")))) as connection:
            connection.execute("CREATE TRIGGER no BEFORE INSERT ON queue BEGIN SELECT RAISE(ABORT, 'no'); END")
        with pytest.raises(expected, match="no"):
            await engine.archive.put_records(records, rehearsal=rehearsal)
