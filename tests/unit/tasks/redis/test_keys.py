import pytest

from lowtide.tasks.redis.keys import Keys

SUBSCRIPTION = "projects/a-project-with-a-long-name/subscriptions/lowtide-requests"


@pytest.mark.parametrize("name", ["end", "tries"])
def test_a_message_s_key_is_short_and_of_its_subscription_alone(name: str) -> None:
    key = getattr(Keys("fleet:"), name)
    ours = key(f"{SUBSCRIPTION}:1234567890123456")

    assert ours.startswith("fleet:lt2:")
    assert ours.endswith(":1234567890123456")
    assert len(ours) - len("fleet:") <= 8 + 12 + 17
    assert ours != key(f"{SUBSCRIPTION}-2:1234567890123456")
    assert ours == key(f"{SUBSCRIPTION}:*").replace("*", "1234567890123456")
