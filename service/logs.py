"""Logs as JSON lines on standard error, the server's own among them."""

import json
import logging
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog
from pydantic_core import to_json
from structlog.types import Processor

_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)


def _encode(event: object, **_: object) -> str:
    try:
        return to_json(event, fallback=repr).decode()
    except ValueError:  # half of a surrogate pair, which is no UTF-8
        return json.dumps(event, default=repr)


class _Steadfast:
    """A stream whose lines may be lost, on a full disk for example, but which never raises."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        with suppress(OSError):
            self._stream.write(line)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def configure_logs(level: str, stream: TextIO = sys.stderr) -> None:
    """Send everything from `level` on to `stream`, one JSON object a line."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*_SHARED, structlog.processors.JSONRenderer(_encode)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        # A request is worth more than its log line.
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Steadfast(stream))),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(_encode),
            ],
            foreign_pre_chain=_SHARED,
        )
    )
    logging.basicConfig(level=number, handlers=[handler], force=True)
