"""Hooks of the fuzzer: what the OpenAPI document does not tell it."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.serializer("application/jsonl")
def lines(_context: Any, value: Any) -> bytes:
    """A batch's body is its text."""
    return str(value).encode("utf-8", "surrogatepass")


@schemathesis.hook
def before_load_schema(_context: Any, document: dict[str, Any]) -> None:
    """Let it send JSON Lines, too, which the document keeps beside the content that generators of clients read."""
    for own in document["paths"].values():
        for operation in own.values():
            body = operation.get("requestBody", {})
            body.get("content", {}).update(body.get("x-content", {}))


@schemathesis.hook
def before_call(_context: Any, case: Any, _options: Any) -> None:
    """Shorten long waits: there are many cases, sent one after the other."""
    for holder in (case.query, case.headers):
        for name in ("wait", "Prefer"):
            if holder and str(holder.get(name, "")).strip().rpartition("=")[2].isdigit():
                holder[name] = "wait=1" if name == "Prefer" else "1"
