"""Waking those who wait, without a server around it."""

import asyncio

from lowtide.local.pubsub.bells import Bells


def test_a_ring_wakes_those_who_wait_for_that_name_and_nobody_else():
    async def story():
        bells = Bells()
        one, other = (asyncio.create_task(bells.wait(name, timeout_s=None)) for name in ("one", "other"))
        await asyncio.sleep(0)
        bells.ring(["one", "nobody"])
        await one
        assert not other.done()
        bells.ring(["other"])
        await other

    asyncio.run(story())


def test_a_wait_ends_by_itself_when_its_time_is_up():
    asyncio.run(Bells().wait("one", timeout_s=0.01))


def test_a_ring_may_meet_a_wait_that_is_being_cancelled():
    async def story():
        bells = Bells()
        task = asyncio.create_task(bells.wait("one", timeout_s=None))
        await asyncio.sleep(0)
        task.cancel()
        bells.ring(["one"])  # before the task has noticed
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    asyncio.run(story())
