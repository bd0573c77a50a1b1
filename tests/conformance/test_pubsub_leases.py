"""What happens at a deadline: one wait of eleven seconds for everything that needs one."""

import time

DEADLINE_S = 10
SLACK_S = 10


def test_leases_end_extend_and_expire(bench):
    late_sub, counted_sub = _subscriptions(bench)
    bench.publish(b"expires")
    bench.publish(b"extended")
    started_s = time.monotonic()  # before: the leases are from then on or later
    held = {item.message.data: item for item in bench.pull(2)}
    bench.lease(60, held[b"extended"])
    late = bench.pull(2, subscription=late_sub)
    counted = bench.pull(2, subscription=counted_sub)
    streamed, stream = _hold_in_a_stream(bench)

    (again,) = _next(bench)
    waited_s = time.monotonic() - started_s
    time.sleep(max(0.0, DEADLINE_S + 1 - waited_s))
    # At the deadline, not before; the same message under a new ack id; the extended one stays away.
    assert DEADLINE_S - 0.5 < waited_s < DEADLINE_S + SLACK_S
    assert again.message == held[b"expires"].message
    assert again.ack_id != held[b"expires"].ack_id
    assert bench.peek() == []
    # An ack that comes too late, but before the next delivery, counts.
    bench.ack(*late, subscription=late_sub)
    assert bench.peek(subscription=late_sub) == []
    # Expiry is an attempt.
    assert [item.delivery_attempt for item in counted] == [1, 1]
    assert [item.delivery_attempt for item in bench.pull(2, subscription=counted_sub)] == [2, 2]
    # The streaming client renewed what its callback still held.
    assert sorted(message.data for message in streamed) == [b"expires", b"extended"]
    stream.cancel()
    stream.result(timeout=10)


def _subscriptions(bench):
    policy = {"dead_letter_topic": bench.create_topic("dead-letters"), "max_delivery_attempts": 5}
    bench.create_subscription("streamed")
    return bench.create_subscription("late"), bench.create_subscription("counted", dead_letter_policy=policy)


def _hold_in_a_stream(bench):
    streamed = []
    stream = bench.subscriber.subscribe(bench.subscription_path("streamed"), callback=streamed.append)
    return streamed, stream


def _next(bench):
    """The next message, with short pulls so that its arrival can be timed."""
    until_s = time.monotonic() + DEADLINE_S + SLACK_S
    while time.monotonic() < until_s:
        if received := bench.pull_once(timeout_s=2.0):
            return received
    raise AssertionError("nothing came back")
