"""The page of a family of tasks: a task, its children and theirs, as a tree of bounded breadth and depth."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from tasker.api.events import SSE
from tasker.api.replies import Reply, Stream
from tasker.model import Task
from tasker.model.keys import Caller
from tasker.service import Service
from tasker.service.feed import HEARTBEAT
from tasker.web.children import Children, children_of, find_first
from tasker.web.frame import Frame
from tasker.web.live import BEAT, EVERY_FIGURE, Live, Watch, message, partial
from tasker.web.page import Visit, show
from tasker.web.rows import Row, row_of
from tasker.web.task_live import stable

MOST_NODES = 150
"""Tasks in a tree; those beyond it are counted, and links away."""
MOST_OF_TOP, MOST_OF_OTHERS = 30, 8
"""Children of a task that are shown: of the one at the top, and of any below it."""
MOST_LEVELS = 16
_LOOK_AGAIN = 3.0
"""Seconds between looks at a tree in which something goes on: those that are not shown change its counts."""


@dataclass(slots=True)
class Node:
    """A task in the tree. children: its counts, None without any. below: those shown; more: how many are not."""

    row: Row
    children: Children | None = None
    below: list[Node] = field(default_factory=list)
    more: int = 0


@dataclass(slots=True)
class Tree:
    """A tree. above: the tasks from the root down to the one at the top. ids: of all tasks shown."""

    top: Node
    above: list[Row]
    ids: set[UUID]
    goes_on: bool


async def build(service: Service, caller: Caller, task_id: UUID, now: datetime) -> Tree:
    """Return the tree of a task: level by level, failed and running children first. Raises NotFound, Expired."""
    task = await service.tasks.get(caller, task_id)
    [told] = await service.waiting.with_reasons(caller, [task])
    top = Node(row_of(told, now))
    ids, goes_on = {task_id}, False
    waiting: deque[tuple[Node, UUID, int]] = deque([(top, task_id, 0)])
    while waiting:
        node, at, level = waiting.popleft()
        full = task if level == 0 else await service.tasks.find(caller, at)
        if full is None:
            continue
        goes_on = goes_on or not full.status.is_terminal
        left = min(MOST_OF_OTHERS if level else MOST_OF_TOP, MOST_NODES - len(ids))
        first = await find_first(service, caller, full, left) if left > 0 and level < MOST_LEVELS else []
        node.children = children_of(full, first, now)
        if node.children is None:
            continue
        node.more = node.children.more
        for child in first:
            below = Node(row_of(child, now))
            node.below.append(below)
            ids.add(child.task_id)
            if child.attempt:  # before its first attempt it has no children
                waiting.append((below, child.task_id, level + 1))
    return Tree(top, await _above(service, caller, task, now), ids, goes_on)


async def _above(service: Service, caller: Caller, task: Task, now: datetime) -> list[Row]:
    """Return the parent of a task, its parent and so on, the root first."""
    found: list[Row] = []
    while task.parent_id is not None and len(found) < MOST_LEVELS:
        parent = await service.tasks.find(caller, task.parent_id)
        if parent is None:
            break
        found.insert(0, row_of(parent, now))
        task = parent
    return found


class TreePages:
    """Show families of tasks."""

    def __init__(self, frame: Frame, service: Service, live: Live) -> None:
        self._frame = frame
        self._service = service
        self._live = live

    @show("/task/{task_id}/tree")
    async def tree(self, visit: Visit) -> Reply:
        """Show a task with its children and theirs."""
        task_id = visit.call.task_id()
        tree = await build(self._service, visit.caller, task_id, visit.now)
        return self._frame.render(
            visit,
            "tree.html",
            page="tasks",
            t=tree,
            tree_html=self._part(tree),
            live=f"{visit.base}live/tree/{task_id}",
        )

    @show("/live/tree/{task_id}", media=SSE)
    async def live_tree(self, visit: Visit) -> Stream:
        """Stream the tree whenever it has changed."""
        task_id = visit.call.task_id()
        await self._service.tasks.get(visit.caller, task_id)
        return self._live.stream(visit, self._changes(visit.caller, task_id))

    async def _changes(self, caller: Caller, task_id: UUID) -> AsyncGenerator[bytes, None]:
        pulse, sent = self._live.pulse, ""
        while not pulse.has_ended:
            tree = await build(self._service, caller, task_id, self._frame.clock.now())
            html = self._part(tree)
            yield BEAT if stable(html) == sent else message([partial("tree", html)])
            sent = stable(html)
            with pulse.watching(Watch(caller.only, tree.ids)) as watch:
                await watch.wait(_LOOK_AGAIN if tree.goes_on else HEARTBEAT)
            await asyncio.sleep(EVERY_FIGURE)

    def _part(self, tree: Tree) -> str:
        return self._frame.part("tree_parts.html", "tree", t=tree, base="../../", now=self._frame.clock.now())
