"""Reads Cloud Monitoring for callers that must not wait for it: what Pub/Sub holds, and what the group was sized by.

One thread; its life is `start` → a reading every 15 s → `stop`, which does not wait for a reading that is under way.
"""

import threading
import time
from typing import TYPE_CHECKING

from lowtide.autoscaling.policy.decide import STALE_AFTER_S, Histories
from lowtide.autoscaling.policy.from_settings import policy_of
from lowtide.autoscaling.signal.last_value import LastValue, SourceUnreadable
from lowtide.autoscaling.signal.signal import Undelivered
from lowtide.config import Settings, SettingsError, pubsub_emulator
from lowtide.config.metrics import PUBSUB

if TYPE_CHECKING:
    from lowtide.autoscaling.export.monitoring import Monitoring

READ_S = 15.0
"""Pub/Sub's metric has a point each minute, and readings have a quota: more often would tell nothing more."""
ANSWER_S = 5.0
"""How long the first reading may hold up whoever looks."""


class MonitoringReader:
    """`pubsub`: what `Monitoring` says of it. `signals`: what the fleet's policy goes by, as far back as it looks.

    Neither can be read without a project, credentials and the client of Cloud Monitoring, which only the extra
    `autoscaling` installs.
    """

    def __init__(self, settings: Settings) -> None:
        self.pubsub = LastValue[Undelivered](PUBSUB, self._undelivered, age_of=lambda seen: seen.age_s)
        self.signals = LastValue[Histories]("signals", self._histories)
        self._settings = settings
        self._policy = policy_of(settings)
        self._monitoring: Monitoring | None = None
        self._tried = threading.Event()
        self._stopped = threading.Event()
        self._wait_until_s = 0.0
        self._thread = threading.Thread(target=self._run, name="monitoring-reader", daemon=True)

    def start(self) -> None:
        """Read now, and go on."""
        self._wait_until_s = time.monotonic() + ANSWER_S
        self._thread.start()

    def wait(self) -> None:
        """Until a first reading has come or failed, or 5 s have passed since the start."""
        self._tried.wait(max(0.0, self._wait_until_s - time.monotonic()))

    def stop(self) -> None:
        """Idempotent."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.pubsub.refresh()
            self.signals.refresh()
            self._tried.set()
            self._stopped.wait(READ_S)
        if self._monitoring:
            self._monitoring.close()

    def _client(self) -> "Monitoring":
        """Made by the thread: to look for credentials may take seconds, and so does the import."""
        if self._monitoring is None:
            if pubsub_emulator() and not self._settings.monitoring_host:
                raise SourceUnreadable(
                    "Google does not count what the Pub/Sub at PUBSUB_EMULATOR_HOST holds: set LOWTIDE_MONITORING_HOST"
                )
            try:
                self._settings.require_project()
                from lowtide.autoscaling.export.monitoring import Monitoring

                self._monitoring = Monitoring(self._settings)
            except SettingsError as error:
                raise SourceUnreadable(str(error)) from error
            except ModuleNotFoundError as error:
                raise SourceUnreadable(f'{error.name} is not installed: pip install "lowtide[autoscaling]"') from error
        return self._monitoring

    def _undelivered(self) -> Undelivered:
        # Nobody need be asked what waits in no subscription.
        return self._client().undelivered() if self._settings.subscription else Undelivered(messages=0, age_s=0.0)

    def _histories(self) -> Histories:
        back_s = self._policy.window_s + int(STALE_AFTER_S)
        return {one.metric: self._client().series(one.query, back_s=back_s) for one in self._policy.signals}
