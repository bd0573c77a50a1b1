"""Logging: one line per change of state, on standard error."""

import logging

from lowtide.config.redact import redacted
from lowtide.config.settings import Settings

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class _Redacting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """The line, and its traceback, as it may be shown."""
        return redacted(super().format(record))


def configure_logging(settings: Settings, *, default: str = "INFO") -> None:
    """Send the process' log to standard error, at the level of LOWTIDE_LOG_LEVEL, else at `default`."""
    level = settings.log_level if "log_level" in settings.model_fields_set else default
    handler = logging.StreamHandler()
    handler.setFormatter(_Redacting(FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # Chatter of others: every task received and every token refreshed is theirs to know.
    for name in ("celery.worker.strategy", "kombu", "urllib3", "google"):
        logging.getLogger(name).setLevel(logging.WARNING)
