"""Whether a job's webhook can be delivered, as far as that can be told when it is submitted."""

from schemas.problem import FieldError, ProblemError, ProblemType, and_more
from schemas.request import JobRequest, Webhook
from schemas.settings import Settings
from service.webhooks.addresses import UnusableUrl, receiver_of


def require_deliverable(request: JobRequest, settings: Settings) -> None:
    """Refuse a webhook that could never be sent. Raises ProblemError (invalid-request).

    Asks no name server: a name that leads to no public address is found out at the delivery.
    """
    if request.webhook is None:
        return
    found = (_url_error(request.webhook, settings), _secret_error(request.webhook, settings))
    errors = [error for error in found if error is not None]
    if errors:
        detail = errors[0].detail + and_more(errors)
        raise ProblemError(ProblemType.INVALID_REQUEST, detail, errors)


def _url_error(webhook: Webhook, settings: Settings) -> FieldError | None:
    try:
        receiver = receiver_of(webhook.url)
    except UnusableUrl as error:
        return FieldError(pointer="/webhook/url", detail=str(error))
    if receiver.is_public or settings.allow_private_webhooks:
        return None
    return FieldError(
        pointer="/webhook/url",
        detail=f"`{receiver.host}` is no public address. Give a receiver that the public net "
        "reaches, or start the service with MAMBASCOPE_ALLOW_PRIVATE_WEBHOOKS=true.",
    )


def _secret_error(webhook: Webhook, settings: Settings) -> FieldError | None:
    if webhook.secret is not None or settings.webhook_secret is not None:
        return None
    return FieldError(
        pointer="/webhook/secret",
        detail="Give the secret that signs what is sent, `whsec_` and base64 of 24 to 64 bytes: "
        "this installation has none of its own (MAMBASCOPE_WEBHOOK_SECRET).",
    )
