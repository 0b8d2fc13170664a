"""The lead, on every engine: who has it keeps it."""

from __future__ import annotations

from tasker.engines.protocol import Engine


async def test_the_only_process_has_the_lead_at_once_and_keeps_it(engine: Engine) -> None:
    assert [await engine.lead.hold() for _ in range(3)] == [True] * 3


async def test_it_can_be_given_up_and_taken_again(engine: Engine) -> None:
    await engine.lead.give_up()
    assert await engine.lead.hold()
    await engine.lead.give_up()
    await engine.lead.give_up()
    assert await engine.lead.hold()
