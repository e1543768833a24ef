"""One attempt to deliver a webhook."""

import asyncio
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpcore

from jobs.outbox import Outcome, Parcel
from schemas.settings import Settings
from schemas.version import package_version
from service.webhooks.addresses import NoUsableAddress, Receiver, UnusableUrl, receiver_of
from service.webhooks.connecting import AnswerTooLong, CheckedNetwork
from service.webhooks.signing import signature

_GONE = 410
# Seconds for the rest of an answer whose status is known; it is read so that the receiver may end.
_REST_TIMEOUT = 1.0

# A TLS error after the handshake is an OSError; it is not wrapped.
_BROKEN = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError)

Headers = list[tuple[bytes, bytes]]


class Sender:
    """Sends webhooks: one POST each, no proxy, no redirect, no cookie."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # The system's authorities, SSL_CERT_FILE among them, and those that httpcore brings.
        self._ssl = httpcore.default_ssl_context()
        self._agent = f"Mambascope/{package_version()}"

    async def send(self, parcel: Parcel) -> Outcome:
        """What came of it. Everything that a receiver may do is an outcome, never an error."""
        secret = parcel.secret or self._settings.webhook_secret
        if secret is None:
            return Outcome(error="this installation has no secret any more to sign it with")
        timeout = self._settings.webhook_timeout
        try:
            receiver = receiver_of(parcel.url)
            headers, body = self._message(parcel, receiver, secret.get_secret_value())
            async with asyncio.timeout(timeout):
                status, answered = await self._post(receiver, headers, body)
        except UnusableUrl as error:
            return Outcome(error=str(error))
        except TimeoutError:
            return Outcome(error=f"no answer within {timeout} seconds")
        except _BROKEN as error:
            return Outcome(error=_words(error))
        return _judged(status, answered)

    def _message(self, parcel: Parcel, receiver: Receiver, secret: str) -> tuple[Headers, bytes]:
        message_id, timestamp = f"msg_{parcel.job_id}", int(parcel.at.timestamp())
        body = parcel.event.model_dump_json().encode()
        headers = {
            "Host": receiver.authority,
            "User-Agent": self._agent,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(secret, message_id, timestamp, body),
        }
        return [(name.encode(), value.encode()) for name, value in headers.items()], body

    async def _post(
        self, receiver: Receiver, headers: Headers, body: bytes
    ) -> tuple[int, dict[bytes, bytes]]:
        url = httpcore.URL(
            scheme=receiver.scheme.encode(),
            host=receiver.host.encode(),
            port=receiver.port,
            target=receiver.target,
        )
        network = CheckedNetwork(receiver, allow_private=self._settings.allow_private_webhooks)
        async with (
            httpcore.AsyncHTTPConnection(
                url.origin, ssl_context=self._ssl, network_backend=network
            ) as connection,
            connection.stream("POST", url, headers=headers, content=body) as response,
        ):
            with suppress(*_BROKEN):
                async with asyncio.timeout(_REST_TIMEOUT):
                    await response.aread()
            return response.status, {name.lower(): value for name, value in response.headers}


def _judged(status: int, headers: dict[bytes, bytes]) -> Outcome:
    """What an answer means ("Delivery success and failure" in the specification)."""
    if 200 <= status < 300:
        return Outcome(status)
    if status == _GONE:
        return Outcome(status, "it answered 410, so it wants no more", is_final=True)
    if 300 <= status < 400:
        return Outcome(status, f"it answered {status}, and redirects are not followed")
    retry_after = _seconds(headers.get(b"retry-after", b"").decode("latin-1"))
    return Outcome(status, f"it answered {status}", retry_after)


def _seconds(retry_after: str) -> float | None:
    """The value of a Retry-After header (RFC 9110, section 10.2.3), which may be anything."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    # A date without a zone is meant in UTC.
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _words(error: Exception) -> str:
    """Why there was no answer, in words that tell nothing of the network around the service."""
    causes = _causes(error)
    if any(isinstance(cause, NoUsableAddress) for cause in causes):
        return "its host has no address, or one that is not public"
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate was refused: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "TLS could not be agreed on"
    if isinstance(error, AnswerTooLong):
        return "it answered with more than is read"
    if isinstance(error, httpcore.ConnectError | httpcore.ConnectTimeout):
        return "it could not be connected to"
    if isinstance(error, httpcore.ProtocolError):
        return "it answered with what is no HTTP, or closed the connection"
    return "the connection was lost"


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
