"""Signatures of webhooks (Standard Webhooks 1.0, "Signature scheme", symmetric)."""

import base64
import hashlib
import hmac

PREFIX = "whsec_"


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: `v1,` and base64 of HMAC-SHA256 of `id.timestamp.body`.

    `secret` is as `schemas.names.WEBHOOK_SECRET` has it, `timestamp` in Unix seconds.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(_key(secret), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _key(secret: str) -> bytes:
    """The bytes of a secret; those who make one may leave its padding away."""
    encoded = secret.removeprefix(PREFIX).rstrip("=")
    return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
