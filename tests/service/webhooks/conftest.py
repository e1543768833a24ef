"""An installation that may write to loopback, where the tests' receivers are."""

import pytest

from schemas.settings import Settings


@pytest.fixture(scope="module")
def loopback(settings: Settings) -> Settings:
    return settings.model_copy(update={"allow_private_webhooks": True, "webhook_timeout": 2})
