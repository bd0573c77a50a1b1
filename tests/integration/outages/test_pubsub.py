"""Pub/Sub fails in every way that it can, under a bridge and a worker that are processes of their own."""

import os
import signal
import time

import pytest

from lowtide.bridge.pubsub.client import CALL_S
from lowtide.bridge.pubsub.create import create_missing
from tests import services
from tests.integration.outages.fleet import (
    OutageFleet,
    PubsubServer,
    Serve,
    each_process_says_it_once,
    everything_gets_one_result,
)
from tests.waiting import until


@pytest.fixture(scope="module", params=["ours", "emulator"])
def pubsub(request: pytest.FixtureRequest, fleet: OutageFleet, pubsub_server: PubsubServer) -> PubsubServer:
    """Ours, then Google's emulator at the same address, which stays: such tests come last."""
    if request.param == "emulator":
        request.getfixturevalue("emulator_here")
        exchange(fleet, pubsub_server, services.google_emulator)
    return pubsub_server


def exchange(fleet: OutageFleet, server: PubsubServer, serve: Serve) -> None:
    """Another server takes the place of the one that runs. The bridge sleeps meanwhile: it would wait for topics."""
    bridge = fleet.processes["bridge"].pid
    assert bridge
    os.kill(bridge, signal.SIGSTOP)
    server.stop()
    server.serve = serve
    server.start()
    create_topics(fleet, server)
    os.kill(bridge, signal.SIGCONT)
    with everything_gets_one_result(fleet):
        until(lambda: fleet.copies)


def create_topics(fleet: OutageFleet, server: PubsubServer) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PUBSUB_EMULATOR_HOST", server.host)
        create_missing(fleet.settings)


def test_a_pubsub_that_stands_still_costs_neither_a_request_nor_a_copy(
    fleet: OutageFleet, pubsub: PubsubServer
) -> None:
    with each_process_says_it_once(fleet), everything_gets_one_result(fleet):
        until(lambda: fleet.copies)
        pubsub.signal(signal.SIGSTOP)
        time.sleep(CALL_S + 1.0)
        pubsub.signal(signal.SIGCONT)


def test_a_pubsub_that_is_gone_and_comes_back_without_topics_is_waited_for(
    fleet: OutageFleet, pubsub: PubsubServer
) -> None:
    with each_process_says_it_once(fleet) as said:
        pubsub.stop()
        time.sleep(1.0)
        pubsub.start()
        until(lambda: "NOT_FOUND" in fleet.health()["reason"], what="the bridge says what is missing")
        create_topics(fleet, pubsub)
        with everything_gets_one_result(fleet):
            until(lambda: fleet.copies)
    assert said["bridge"] == {f"can't pull {fleet.settings.subscription_path('lowtide-requests')}"}


def test_a_bridge_that_starts_while_pubsub_is_away_waits_for_it(fleet: OutageFleet, pubsub: PubsubServer) -> None:
    pubsub.stop()
    fleet.processes["bridge"].stop()
    fleet.start("bridge", "bridge --create")
    until(lambda: "Pub/Sub does not answer: trying on" in fleet.log("bridge"))
    pubsub.start()
    until(fleet.made)
    with everything_gets_one_result(fleet):
        until(lambda: fleet.copies)
