"""Instances and threads: the config's own numbers are obeyed, else the budget is used and not more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.runtime import CPU_PLAN, config

from naiad.config.model_config import InstanceGroup, InstanceKind
from naiad.config.sequence_config import SequenceBatching
from naiad.core.errors import InvalidArgumentError
from naiad.runtime.layout import (
    Instance,
    InstanceLayout,
    MeasuredLayout,
    candidates,
    is_open,
    plan_instances,
)
from naiad.runtime.providers import CPU, CUDA, Provider, ProviderPlan
from naiad.runtime.threads import CpuBudget

GPU_PLAN = ProviderPlan((Provider(CUDA), Provider(CPU)), (CUDA, CPU), (), gpu_count=2)


def layout(threads: int, plan: ProviderPlan = CPU_PLAN, **fields: object) -> InstanceLayout:
    return plan_instances(config(**fields), plan, CpuBudget(threads, "test"))


@pytest.mark.parametrize(
    ("threads", "instances", "intra"), [(1, 1, 1), (2, 2, 1), (4, 4, 1), (8, 4, 5), (16, 4, 13)]
)
def test_cpu_budget_is_split(threads: int, instances: int, intra: int) -> None:
    planned = layout(threads)
    assert planned.groups == (InstanceGroup("m", InstanceKind.CPU, instances),)
    assert planned.intra_op_threads == intra
    assert planned.inter_op_threads == 1
    assert planned.notes == ()


@given(threads=st.integers(1, 256), count=st.integers(0, 16))
def test_callers_and_pool_use_the_whole_budget_and_no_more(threads: int, count: int) -> None:
    """A running instance is a thread of its own beside the pool's `intra_op_threads - 1`."""
    groups = (InstanceGroup("", InstanceKind.CPU, count),) if count else ()
    planned = layout(threads, instance_groups=groups)
    busy = len(planned.instances) + planned.intra_op_threads - 1
    assert busy == max(threads, len(planned.instances))


def test_names_of_groups_and_instances() -> None:
    groups = (InstanceGroup("", InstanceKind.CPU, 1), InstanceGroup("big", InstanceKind.CPU, 2))
    planned = layout(4, instance_groups=groups)
    assert [group.name for group in planned.groups] == ["m_0", "big"]
    assert planned.instances == (Instance("m_0_0", None), Instance("big_0", None), Instance("big_1", None))


def test_too_many_instances_are_obeyed_and_said() -> None:
    planned = layout(2, instance_groups=(InstanceGroup("", InstanceKind.CPU, 8),))
    assert len(planned.instances) == 8
    assert planned.intra_op_threads == 1
    assert "8 instances" in planned.notes[0]
    assert "the budget is 2 (test)" in planned.notes[0]


def test_threads_named_without_a_group_leave_room_for_them() -> None:
    planned = layout(8, parameters={"intra_op_thread_count": "4"})
    assert (len(planned.instances), planned.intra_op_threads) == (2, 4)
    assert "no instance_group is named: 2 instances for 8 CPU threads" in planned.notes[0]


def test_both_named_are_obeyed() -> None:
    planned = layout(
        2,
        instance_groups=(InstanceGroup("", InstanceKind.CPU, 3),),
        parameters={"intra_op_thread_count": "2", "inter_op_thread_count": "5"},
    )
    assert (len(planned.instances), planned.intra_op_threads, planned.inter_op_threads) == (3, 2, 5)


def test_parallel_mode_shares_the_budget_between_two_pools() -> None:
    planned = layout(
        8, instance_groups=(InstanceGroup("", InstanceKind.CPU, 1),), parameters={"execution_mode": "1"}
    )
    assert (planned.intra_op_threads, planned.inter_op_threads) == (4, 4)


def test_a_group_without_a_count_takes_the_servers() -> None:
    assert len(layout(3, instance_groups=(InstanceGroup("", InstanceKind.CPU, 0),)).instances) == 3


def test_one_instance_a_gpu() -> None:
    planned = layout(8, GPU_PLAN)
    assert planned.groups == (InstanceGroup("m", InstanceKind.GPU, 1, (0, 1)),)
    assert planned.instances == (Instance("m_0_gpu0", 0), Instance("m_0_gpu1", 1))
    assert planned.intra_op_threads == 1


def test_count_is_per_gpu() -> None:
    planned = layout(8, GPU_PLAN, instance_groups=(InstanceGroup("g", InstanceKind.GPU, 2, (1,)),))
    assert planned.instances == (Instance("g_0", 1), Instance("g_1", 1))


def test_auto_goes_to_the_gpu_unless_one_that_it_lists_is_missing() -> None:
    assert layout(8, GPU_PLAN, instance_groups=(InstanceGroup("", InstanceKind.AUTO, 1),)).groups == (
        InstanceGroup("m_0", InstanceKind.GPU, 1, (0, 1)),
    )
    missing = layout(8, GPU_PLAN, instance_groups=(InstanceGroup("", InstanceKind.AUTO, 1, (5,)),))
    assert missing.groups[0].kind is InstanceKind.CPU


def test_gpu_kind_without_a_gpu_is_laid_out_on_the_cpu() -> None:
    planned = layout(8, instance_groups=(InstanceGroup("", InstanceKind.GPU, 2, (0,)),))
    assert planned.groups == (InstanceGroup("m_0", InstanceKind.CPU, 2),)


def test_unknown_gpu_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"gpu id 7\. Visible GPUs: 0, 1"):
        layout(8, GPU_PLAN, instance_groups=(InstanceGroup("", InstanceKind.GPU, 1, (7,)),))


def test_passive_instances_are_laid_out_and_take_neither_requests_nor_threads() -> None:
    planned = layout(
        4,
        instance_groups=(
            InstanceGroup("on", InstanceKind.CPU, 2),
            InstanceGroup("off", InstanceKind.CPU, 2, passive=True),
        ),
    )
    assert [instance.name for instance in planned.instances] == ["on_0", "on_1", "off_0", "off_1"]
    assert planned.active == ("on_0", "on_1")
    assert planned.intra_op_threads == 3, "a pool of two beside the two instances"


def test_a_model_of_passive_groups_alone_would_never_answer_and_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="every instance group of model m is passive"):
        layout(2, instance_groups=(InstanceGroup("off", InstanceKind.CPU, 1, passive=True),))


@pytest.mark.parametrize(
    ("threads", "most", "counts"),
    [(1, 9, (1,)), (2, 9, (2, 1)), (6, 9, (6, 3, 1)), (16, 99, (16, 8, 4, 2, 1)), (16, 5, (4, 2, 1))],
)
def test_candidates_halve_and_fit_into_memory(threads: int, most: int, counts: tuple[int, ...]) -> None:
    assert candidates(threads, most=most) == counts


def test_what_was_measured_takes_the_rules_place_and_uses_the_same_threads() -> None:
    measured = MeasuredLayout(16, "measured: 16 x 1 is best")
    planned = plan_instances(config(), CPU_PLAN, CpuBudget(16, "test"), measured=measured)
    assert (len(planned.instances), planned.intra_op_threads) == (16, 1)
    assert planned.groups == (InstanceGroup("m", InstanceKind.CPU, 16),)
    assert planned.reason == "measured: 16 x 1 is best"
    assert planned.text == "16 x 1, no spin, measured"


@pytest.mark.parametrize(
    "fields",
    [
        {"instance_groups": (InstanceGroup("", InstanceKind.CPU, 1),)},
        {"instance_groups": (InstanceGroup("", InstanceKind.CPU, 0), InstanceGroup("", InstanceKind.CPU, 0))},
        {"parameters": {"intra_op_thread_count": "1"}},
        {"parameters": {"execution_mode": "1"}},
        {"sequence_batching": SequenceBatching()},
    ],
)
def test_a_config_that_says_how_threads_are_used_is_obeyed(fields: dict[str, object]) -> None:
    assert not is_open(config(**fields))


def test_a_config_that_leaves_it_open_is_the_servers_to_lay_out() -> None:
    assert is_open(config())
    assert is_open(config(instance_groups=(InstanceGroup("", InstanceKind.CPU, 0),)))


@pytest.mark.parametrize(
    ("threads", "fields", "text"),
    [
        (2, {}, "2 x 1, no spin, rule"),
        (16, {}, "4 x 4, no spin, rule"),
        (6, {}, "4 x 1.5, no spin, rule"),
        (8, {"instance_groups": (InstanceGroup("", InstanceKind.CPU, 2),)}, "2 x 4, no spin, config"),
    ],
)
def test_a_layout_in_words(threads: int, fields: dict[str, object], text: str) -> None:
    assert layout(threads, CPU_PLAN, **fields).text == text


def test_why_a_model_on_a_gpu_has_its_threads() -> None:
    assert layout(8, GPU_PLAN).reason.startswith("GPU: ")


def test_threads_that_spin_are_said() -> None:
    planned = layout(
        2,
        instance_groups=(InstanceGroup("", InstanceKind.CPU, 1),),
        parameters={"session.intra_op.allow_spinning": "1"},
    )
    assert planned.text == "1 x 2, spin, config"
    assert "take the CPU from the server's other threads" in planned.notes[0]


def test_a_session_of_one_thread_has_none_that_would_spin() -> None:
    planned = layout(2, parameters={"session.intra_op.allow_spinning": "1"})
    assert (planned.text, planned.notes) == ("2 x 1, no spin, rule", ())
