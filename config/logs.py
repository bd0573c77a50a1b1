"""Logging: one line per change of state, on standard error."""

import logging

from lowtide.config.settings import Settings

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def configure_logging(settings: Settings) -> None:
    """Send the process' log to standard error at the level that `settings` names."""
    logging.basicConfig(level=settings.log_level.upper(), format=FORMAT)
    # Chatter of others: every task received and every token refreshed is theirs to know.
    for name in ("celery.worker.strategy", "kombu", "urllib3", "google"):
        logging.getLogger(name).setLevel(logging.WARNING)
