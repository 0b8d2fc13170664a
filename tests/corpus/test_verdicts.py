"""One function, every face: all ways into the service take and refuse the same inputs, and name the same places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tasker.tasktypes.tasktype import TaskType
from tests.client.shells import open_client
from tests.corpus import faces
from tests.corpus.faces import Face
from tests.corpus.samples import BY_POSITION, INPUTS, corpus
from tests.server import run_server

TYPES = {one.name: one for one in corpus()}
NAMED: list[tuple[TaskType, Any]] = [(TYPES[name], params) for name, some in INPUTS.items() for params in some]
POSITIONAL = [(TYPES[name], params) for name, some in BY_POSITION.items() for params in some]
FACES = ("typed path", "batch", "form", "sync", "async", "arguments", "async arguments", "words", "flags", "file")
COMMANDS = ("words", "flags", "file")
"""Faces whose faults quote what was written, rather than what became of it."""
WITHOUT_PARAMS = ("arguments", "async arguments", "words", "flags")
"""Faces that cannot tell no params by name from none by position: they send an empty array."""
SOME = {"words": slice(0, None, 2), "flags": slice(1, None, 2), "file": slice(0, None, 7)}
"""Commands take long: each input goes by words or by flags. A file is sent as it is."""
NAMES_ALONE = ("form", "flags")
SAMPLES = Path(__file__).with_name("samples.py")


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Face]]:
    folder = tmp_path_factory.mktemp("corpus")
    with ExitStack() as stack:
        url = stack.enter_context(run_server(folder, str(SAMPLES))).url
        http = stack.enter_context(httpx2.Client(base_url=url, timeout=30))
        sync, other = (stack.enter_context(open_client(shell, url)) for shell in ("sync", "async"))
        yield {
            "rest": faces.by_rest(http),
            "typed path": faces.by_typed_path(http),
            "batch": faces.by_batch(http, [*NAMED, *POSITIONAL]),
            "form": faces.by_form(http),
            "sync": faces.by_client(sync),
            "async": faces.by_client(other),
            "arguments": faces.by_arguments(sync),
            "async arguments": faces.by_arguments(other),
            "words": faces.by_words(url),
            "flags": faces.by_flags(url),
            "file": faces.by_file(url, folder / "params.json"),
        }


@pytest.mark.parametrize("face", FACES)
def test_every_face_gives_the_verdict_of_rest(ways: dict[str, Face], face: str) -> None:
    cases = NAMED if face in NAMES_ALONE else [*NAMED, *POSITIONAL]
    for task_type, params in cases[SOME.get(face, slice(None))]:
        given = params or [] if face in WITHOUT_PARAMS else params
        found, expected = ways[face](task_type, given), ways["rest"](task_type, given)
        assert _named(found, task_type) == _named(expected, task_type), (task_type.name, params)
        assert found == expected or face in COMMANDS, (task_type.name, params)


def _named(faults: Mapping[str, str], task_type: TaskType) -> set[str]:
    """Return the places of faults, all by name: commands say which flag is missing also after params by position."""
    names = {f"/{position}": f"/{name}" for position, name in enumerate(task_type.positional)}
    return {names.get(pointer, pointer) for pointer in faults}


def test_the_corpus_has_enough_of_both(ways: dict[str, Face]) -> None:
    verdicts = [ways["rest"](task_type, params) for task_type, params in [*NAMED, *POSITIONAL]]
    assert sum(verdict == {} for verdict in verdicts) >= 15
    assert sum(len(verdict) for verdict in verdicts) >= 60
    assert {name for name in TYPES if name != "hidden"} <= set(INPUTS)
