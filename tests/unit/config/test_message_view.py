"""What the ModelConfig RPC shows of the runtime's choices."""

from __future__ import annotations

from naiad.config.message_view import with_instances
from naiad.config.messages import parse_text
from naiad.config.model_config import InstanceGroup, InstanceKind


def test_chosen_groups_and_parameters_are_shown_and_the_original_stays() -> None:
    message = parse_text('name: "m" parameters { key: "a" value { string_value: "1" } }', "here")
    group = InstanceGroup("m", InstanceKind.GPU, 2, (0, 1))
    view = with_instances(message, [group], {"naiad.runtime.execution_providers": "CUDA, CPU"})
    assert view == parse_text(
        'name: "m" instance_group { name: "m" kind: KIND_GPU count: 2 gpus: [0, 1] } '
        'parameters { key: "a" value { string_value: "1" } } '
        'parameters { key: "naiad.runtime.execution_providers" value { string_value: "CUDA, CPU" } }',
        "here",
    )
    assert not message.instance_group
    assert list(message.parameters) == ["a"]


def test_a_configured_group_keeps_its_other_fields() -> None:
    message = parse_text('instance_group { name: "g" passive: true gpus: 3 }', "here")
    view = with_instances(message, [InstanceGroup("g", InstanceKind.CPU, 2)])
    assert view == parse_text('instance_group { name: "g" passive: true kind: KIND_CPU count: 2 }', "here")
