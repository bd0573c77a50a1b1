"""The schema that the stand-in serves says what the real provider says: a few facts from its documentation."""

import gzip
from typing import Any

import pytest

from tests.terraform import provider, renew

SCHEMA = provider.schema()["resource_schemas"]
TEMPLATE = SCHEMA["google_compute_region_instance_template"]
AUTOSCALER = SCHEMA["google_compute_region_autoscaler"]
POLICY = AUTOSCALER["block_types"]["autoscaling_policy"]


@pytest.mark.parametrize(
    ("block", "name", "said"),
    [
        (TEMPLATE, "machine_type", {"type": "string", "required": True}),
        (TEMPLATE, "metadata", {"type": ["map", "string"], "optional": True}),
        (TEMPLATE, "name_prefix", {"type": "string", "optional": True, "computed": True}),
        (TEMPLATE, "self_link", {"type": "string", "computed": True}),
        (POLICY["block"], "min_replicas", {"type": "number", "required": True}),
        (POLICY["block"], "stabilization_period", {"type": "number", "optional": True}),
        (
            POLICY["block"]["block_types"]["metric"]["block"],
            "single_instance_assignment",
            {"type": "number", "optional": True},
        ),
        (SCHEMA["google_compute_firewall"], "source_ranges", {"type": ["set", "string"], "optional": True}),
        (
            SCHEMA["google_monitoring_alert_policy"],
            "notification_channels",
            {"type": ["list", "string"], "optional": True},
        ),
    ],
)
def test_an_attribute_has_its_type_and_is_required_optional_or_computed(
    block: dict[str, Any], name: str, said: dict[str, Any]
) -> None:
    assert block["attributes"][name] == said


@pytest.mark.parametrize(
    ("block", "name", "mode", "least", "most"),
    [
        (AUTOSCALER, "autoscaling_policy", "list", 1, 1),
        (POLICY["block"], "metric", "list", None, None),
        (POLICY["block"], "scaling_schedules", "set", None, None),
        (TEMPLATE, "disk", "list", 1, None),
        (TEMPLATE["block_types"]["scheduling"]["block"], "preemption_notice_duration", "list", None, 1),
        (SCHEMA["google_compute_network"], "timeouts", "single", None, None),
    ],
)
def test_a_block_is_there_as_often_as_the_provider_wants(
    block: dict[str, Any], name: str, mode: str, least: int | None, most: int | None
) -> None:
    nested = block["block_types"][name]

    assert (nested["nesting_mode"], nested.get("min_items"), nested.get("max_items")) == (mode, least, most)


def test_the_file_is_what_the_script_that_renews_it_writes() -> None:
    schema = provider.schema()

    # Not the packed bytes: zlibs differ.
    assert gzip.decompress(renew.FILE.read_bytes()) == gzip.decompress(renew.written(schema))
    assert schema["origin"] == renew.ORIGIN
