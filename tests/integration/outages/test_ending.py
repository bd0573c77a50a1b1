"""A bridge and a worker end together: at a notice of preemption, and while Redis does not answer."""

import os
import signal
import time

from lowtide.config.process.preemption import PREEMPTED
from lowtide.local.metadata import MetadataServer
from tests.integration.outages.faults import freeze, thaw
from tests.integration.outages.fleet import OutageFleet, everything_gets_one_result
from tests.waiting import until


def test_a_notice_of_preemption_drains_and_who_starts_meanwhile_takes_nothing(
    fleet: OutageFleet, metadata: MetadataServer
) -> None:
    with everything_gets_one_result(fleet, survive=False):
        until(lambda: fleet.copies)
        fleet.stop_both(lambda: metadata.announce(PREEMPTED, "TRUE"))
        assert not fleet.redis.hlen(fleet.keys.holders)
        assert not any(int(fleet.redis.get(key) or 0) for key in fleet.redis.keys(fleet.keys.loss("*")))
        read = {name: len(fleet.log(name)) for name in fleet.processes}
        fleet.start_both()
        for name, start_at in read.items():
            until(lambda name=name, at=start_at: "waiting without taking work" in fleet.log(name)[at:])
        answered = len(fleet.copies)
        time.sleep(1.0)
        assert (len(fleet.copies), fleet.alive()) == (answered, set())
        metadata.announce(PREEMPTED, "FALSE")
        until(lambda: len(fleet.copies) > answered)


def test_a_drain_ends_in_time_also_when_redis_does_not_answer(fleet: OutageFleet) -> None:
    with everything_gets_one_result(fleet, survive=False):
        until(lambda: fleet.copies)
        freeze(fleet)
        time.sleep(1.0)
        signals = [process.pid for process in fleet.processes.values()]
        fleet.stop_both(lambda: [os.kill(pid, signal.SIGTERM) for pid in signals if pid])
        assert "messages handed back" in fleet.log("bridge"), "Pub/Sub is well"
        thaw(fleet)
        fleet.start_both()
