"""Telling a job's receiver that the job has ended (Standard Webhooks 1.0)."""

from service.webhooks.admission import require_deliverable
from service.webhooks.deliverer import Deliverer

__all__ = ["Deliverer", "require_deliverable"]
