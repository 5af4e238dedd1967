"""Logs on standard error: text on a terminal, JSON lines elsewhere."""

import logging
import os
import sys

import structlog
from structlog.typing import Processor

from worker.settings import LogSettings

OURS = ("worker", "engine")


def configure_logs(settings: LogSettings) -> None:
    """Route our own logs and those of libraries through one format. Called once, at start."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _renderer(settings),
            ],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries write passwords and tokens at level debug (the Kafka client each request, others
    # their headers), so only our own loggers go so low.
    level = logging.getLevelName(settings.level.upper())
    root.setLevel(max(level, logging.INFO))
    for name in OURS:
        logging.getLogger(name).setLevel(level)
    # The client repeats itself at every try to reconnect; what matters surfaces as an error here.
    logging.getLogger("kafka").setLevel(logging.INFO if level < logging.INFO else logging.ERROR)


def _renderer(settings: LogSettings) -> Processor:
    terminal = sys.stderr.isatty()
    if settings.format == "json" or (settings.format == "auto" and not terminal):
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    colors = terminal and "NO_COLOR" not in os.environ
    return structlog.dev.ConsoleRenderer(colors=colors)
