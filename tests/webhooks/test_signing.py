"""Signatures, as the libraries that receivers use verify them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
import standardwebhooks
import svix
from openai import InvalidWebhookSignatureError, OpenAI

from tasker.rules.signing import is_secret, new_secret, sign

BODY = '{"type":"task.completed","data":{"result":"ä ☃"}}'.encode()


@pytest.fixture
def now() -> datetime:
    """The libraries look at the clock: what is signed must be fresh."""
    return datetime.now(UTC)


def verify_standard(secret: str, headers: dict[str, str]) -> None:
    standardwebhooks.Webhook(secret).verify(BODY, headers)


def verify_svix(secret: str, headers: dict[str, str]) -> None:
    svix.Webhook(secret).verify(BODY, headers)


def verify_openai(secret: str, headers: dict[str, str]) -> None:
    OpenAI(api_key="none", webhook_secret=secret).webhooks.verify_signature(BODY, headers)


VERIFIERS = [verify_standard, verify_svix, verify_openai]
REFUSALS = (standardwebhooks.WebhookVerificationError, InvalidWebhookSignatureError, ValueError)
verifiers = pytest.mark.parametrize("verify", VERIFIERS)


@verifiers
def test_signatures_are_verified(verify: object, now: datetime) -> None:
    secret = new_secret()
    verify(secret, sign([secret], "evt_1", now, BODY))  # type: ignore[operator]


@verifiers
def test_while_a_secret_is_rotated_both_verify(verify: object, now: datetime) -> None:
    new, old, other = new_secret(), new_secret(), new_secret()
    headers = sign([new, old], "evt_1", now, BODY)
    verify(new, headers)  # type: ignore[operator]
    verify(old, headers)  # type: ignore[operator]
    with pytest.raises(REFUSALS):
        verify(other, headers)  # type: ignore[operator]


@verifiers
@pytest.mark.parametrize("change", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_changed_message_is_not_verified(verify: object, change: str, now: datetime) -> None:
    secret = new_secret()
    headers = sign([secret], "evt_1", now, BODY)
    headers[change] = {
        "webhook-id": "evt_2",
        "webhook-timestamp": str(int((now + timedelta(seconds=5)).timestamp())),
        "webhook-signature": "v1," + base64.b64encode(bytes(32)).decode(),
    }[change]
    with pytest.raises(REFUSALS):
        verify(secret, headers)  # type: ignore[operator]


@verifiers
def test_an_old_message_is_not_verified(verify: object, now: datetime) -> None:
    secret = new_secret()
    with pytest.raises(REFUSALS):
        verify(secret, sign([secret], "evt_1", now - timedelta(minutes=6), BODY))  # type: ignore[operator]


def test_without_a_secret_nothing_is_signed(now: datetime) -> None:
    assert sign([], "evt_1", now, BODY) == {"webhook-id": "evt_1", "webhook-timestamp": str(int(now.timestamp()))}


@pytest.mark.parametrize("size", [24, 32, 64])
def test_valid_secrets(size: int) -> None:
    assert is_secret("whsec_" + base64.b64encode(bytes(size)).decode())
    assert is_secret(new_secret())
    assert new_secret() != new_secret()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        "secret",
        base64.b64encode(bytes(24)).decode(),
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        "whsec_" + "ä" * 32,
        "whsec_" + "A" * 33,
        "whsec_" + "A-_A" * 20,
    ],
)
def test_invalid_secrets(text: str) -> None:
    assert not is_secret(text)
