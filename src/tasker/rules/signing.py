"""Signatures by Standard Webhooks (standardwebhooks.com): HMAC-SHA256 of id, timestamp and body."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime

PREFIX = "whsec_"
LEAST_BYTES, MOST_BYTES = 24, 64
"""Length of a secret's key, in bytes."""


def new_secret() -> str:
    """Return a new random secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(LEAST_BYTES)).decode()


def is_secret(text: str) -> bool:
    """Tell whether the text is a valid secret: `whsec_` and 24 to 64 bytes in base64."""
    try:
        key = _key_of(text)
    except (binascii.Error, ValueError):
        return False
    return text.startswith(PREFIX) and LEAST_BYTES <= len(key) <= MOST_BYTES


def sign(secrets: Sequence[str], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the headers of a message: its id, its time, and a signature with each of the secrets."""
    timestamp = str(int(at.timestamp()))
    headers = {"webhook-id": message_id, "webhook-timestamp": timestamp}
    if secrets:
        content = b"%b.%b.%b" % (message_id.encode(), timestamp.encode(), body)
        headers["webhook-signature"] = " ".join(_signature(_key_of(secret), content) for secret in secrets)
    return headers


def _key_of(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)


def _signature(key: bytes, content: bytes) -> str:
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
