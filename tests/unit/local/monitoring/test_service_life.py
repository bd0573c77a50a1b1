"""When the local Cloud Monitoring looks at Pub/Sub."""

from lowtide.local.monitoring.service import MetricService


def looks_at(*times_s):
    """Those of the server's ticks at which it asks Pub/Sub."""
    now_s, looks = [0.0], []

    def undelivered():
        looks.append(now_s[0])
        return {"projects/p/subscriptions/s": 1}

    service = MetricService(undelivered=undelivered, clock=lambda: now_s[0])
    for now_s[0] in times_s:
        service.tick()
    return looks


def test_pubsub_is_sampled_at_once_and_then_each_second():
    assert looks_at(100, 100.05, 100.95, 101, 101.5, 102.25, 103, 103.25) == [100, 101, 102.25, 103.25]


def test_sampling_goes_on_when_the_clock_is_set_back():
    assert looks_at(100, 50, 50.5, 51, 100.5) == [100, 50, 51, 100.5]
