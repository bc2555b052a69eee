"""Resources as the flag and the model's config give them."""

from __future__ import annotations

import pytest

from naiad.config.messages import parse_text
from naiad.config.rate_config import (
    RateLimit,
    RateResource,
    parse_rate_limit_resources,
    read_rate_limit,
)


def test_a_count_is_of_every_device_or_of_one() -> None:
    assert parse_rate_limit_resources(["R:4", "R:2:0", "S:0:1"]) == {("R", None): 4, ("R", 0): 2, ("S", 1): 0}
    assert parse_rate_limit_resources([]) == {}


@pytest.mark.parametrize("entry", ["R", ":1", "R:", "R:x", "R:-1", "R:1:", "R:1:gpu", "R:1:0:0", "R:²"])
def test_another_form_is_refused_in_tritons_words(entry: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011  # what settings turn into one line
        parse_rate_limit_resources([entry])
    assert f"'<resource_name>:<count>:<device>' or '<resource_name>:<count>'. Got {entry}" in str(
        raised.value
    )


def test_a_resource_is_counted_once() -> None:
    with pytest.raises(ValueError, match="'R:2' names the same resource and device as an entry before it"):
        parse_rate_limit_resources(["R:1", "R:1:0", "R:2"])


def test_the_block_of_a_group_is_read_and_priority_0_counts_as_1() -> None:
    message = parse_text(
        'instance_group [ { }, { rate_limiter { resources [ { name: "R" count: 2 }, '
        '{ name: "G" global: true count: 3 } ] priority: 2 } }, { rate_limiter { } } ]',
        "here",
    )
    without, full, empty = map(read_rate_limit, message.instance_group)
    assert without is None
    assert full == RateLimit((RateResource("R", 2), RateResource("G", 3, is_global=True)), 2)
    assert empty == RateLimit((), 1)
