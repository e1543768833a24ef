"""Signatures of webhooks."""

import base64
import time

import pytest
from pydantic import ValidationError

from schemas.request import Webhook
from schemas.settings import Settings
from service.webhooks.signing import signature
from tests.service.webhooks.receivers import verified

URL = "https://example.org"


def test_the_signature_that_openssl_makes_of_the_same() -> None:
    # printf '<id>.<timestamp>.<body>' | openssl dgst -sha256 -hmac '<key>' -binary | base64
    made = signature(
        "whsec_" + base64.b64encode(b"twenty-four bytes of key").decode(),
        "msg_01KAQ3V9Q0Z7X3M5B8F2N6T4RC",
        1767225609,
        b'{"type":"job.succeeded"}',
    )
    assert made == "v1,1FOkehWG48KdnhUbuM9iKCNoFZrKxvKlpf8C5N181lI="


@pytest.mark.parametrize("size", range(23, 67))
def test_secrets_of_24_to_64_bytes_are_taken_with_and_without_padding(size: int) -> None:
    padded = "whsec_" + base64.b64encode(bytes(range(size))).decode()
    for secret in {padded, padded.rstrip("=")}:
        if 24 <= size <= 64:
            assert Webhook(url=URL, secret=secret).secret == secret
            assert Settings(webhook_secret=secret).webhook_secret is not None
            made = signature(secret, "msg_1", 2**31, b"{}")
            assert made == signature(padded, "msg_1", 2**31, b"{}")
        else:
            with pytest.raises(ValidationError):
                Webhook(url=URL, secret=secret)


@pytest.mark.parametrize(
    "body",
    [
        *("A" * 33, "A" * 37, "A" * 34 + "=", "A" * 35 + "==", "A" * 32 + "=", "A" * 31 + "-"),
        *("A" * 32 + "\n", ""),
    ],
)
def test_what_is_no_base64_is_no_secret(body: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Webhook(url=URL, secret="whsec_" + body)
    assert "secret" in str(refused.value)
    with pytest.raises(ValidationError):
        Settings(webhook_secret="whsec_" + body)


def test_a_receiver_that_follows_the_standard_refuses_another_body() -> None:
    secret = "whsec_" + base64.b64encode(bytes(24)).decode()
    now = int(time.time())
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": signature(secret, "msg_1", now, b"{}"),
    }
    assert verified(headers, b"{}", secret) == {}
    with pytest.raises(AssertionError):
        verified(headers, b"{ }", secret)
    with pytest.raises(AssertionError):
        verified(headers | {"webhook-id": "msg_2"}, b"{}", secret)
