"""Logging: one line per change of state, on standard error."""

import logging

from lowtide.config.settings import Settings

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def configure_logging(settings: Settings, *, default: str = "INFO") -> None:
    """Send the process' log to standard error, at the level of LOWTIDE_LOG_LEVEL, else at `default`."""
    level = settings.log_level if "log_level" in settings.model_fields_set else default
    logging.basicConfig(level=level.upper(), format=FORMAT)
    # Chatter of others: every task received and every token refreshed is theirs to know.
    for name in ("celery.worker.strategy", "kombu", "urllib3", "google"):
        logging.getLogger(name).setLevel(logging.WARNING)
