"""What the wiring does before it opens the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasker.config.settings import Settings
from tasker.errors import RegistrationError
from tasker.wiring.app import open_app


async def test_a_missing_target_of_tasks_leaves_the_store_untouched(tmp_path: Path) -> None:
    """A release that is refused at its start must not have migrated the store: the earlier one would refuse it then."""
    settings = Settings(data_dir=tmp_path / "data", tasks=str(tmp_path / "missing.py"))
    with pytest.raises(RegistrationError):
        async with open_app(settings):
            pass
    assert not settings.database_file.exists()
