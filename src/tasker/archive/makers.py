"""Give scopes to the schedules of older archives, which have none, by the keys that may have created them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Raw, structs

from tasker.engines.shared.tables import KEYS, SCHEDULES
from tasker.model.archive import StoredRecord
from tasker.model.keys import Key, Scope
from tasker.model.schedules import Schedule

_OF_A_SCHEDULE: tuple[Scope, ...] = ("submit", "read", "control")
_encode = msgspec.json.Encoder().encode
_decode_key = msgspec.json.Decoder(Key).decode
_decode_schedule = msgspec.json.Decoder(Schedule).decode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode


class Makers:
    """Gives a schedule without `scopes` the scopes that all of its owner's keys with the scope `submit` share.

    A store does the same with its own older rows (migration 0017). The keys come from the archive, where they precede
    the schedules; for an owner without keys there, those of the store (`there`) count.
    """

    def __init__(self, there: Iterable[Key] = ()) -> None:
        self._brought: dict[str, frozenset[Scope]] = {}
        self._there: dict[str, frozenset[Scope]] = {}
        for key in there:
            _note(self._there, key)

    def settle(self, record: StoredRecord) -> StoredRecord:
        """Return a valid record as it is to be stored."""
        if record.record == KEYS.name:
            _note(self._brought, _decode_key(record.data))
        elif record.record == SCHEDULES.name and "scopes" not in _decode_fields(record.data):
            schedule = _decode_schedule(record.data)
            return structs.replace(record, data=Raw(_encode(structs.replace(schedule, scopes=self._of(schedule)))))
        return record

    def _of(self, schedule: Schedule) -> tuple[Scope, ...]:
        owner = schedule.owner
        found = self._brought.get(owner) or self._there.get(owner)
        return schedule.scopes if found is None else tuple(scope for scope in _OF_A_SCHEDULE if scope in found)


def _note(rights: dict[str, frozenset[Scope]], key: Key) -> None:
    caller = key.caller
    if caller.may("submit"):
        given = frozenset(scope for scope in _OF_A_SCHEDULE if caller.may(scope))
        rights[key.owner] = rights.get(key.owner, given) & given
