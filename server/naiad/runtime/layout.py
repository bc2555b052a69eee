"""How many instances a model gets, where they run and with how many threads. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from naiad.config.model_config import InstanceGroup, InstanceKind
from naiad.core.errors import InvalidArgumentError
from naiad.runtime.session_settings import read_session_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from naiad.config.model_config import ModelConfig
    from naiad.config.rate_config import RateLimit
    from naiad.runtime.providers import ProviderPlan
    from naiad.runtime.session_settings import SessionSettings
    from naiad.runtime.threads import CpuBudget

_SPINNING = "session.intra_op.allow_spinning"

RULE_INSTANCES = 4
"""Instances on the CPU where nothing was measured: the pool's threads do the rest."""


class MeasuredLayout(NamedTuple):
    """The number of instances that a measurement found best, and the sentence that says so."""

    instances: int
    reason: str


class Instance(NamedTuple):
    """One instance: its name, its GPU or None for the CPU, and whether it is loaded but takes no requests.

    `rate_limit` is what it needs to run where the rate limiter is on.
    """

    name: str
    gpu: int | None
    passive: bool = False
    rate_limit: RateLimit | None = None


@dataclass(frozen=True, slots=True)
class InstanceLayout:
    """The instances of a model.

    `groups` are the config's, or the server's choice, with every name, kind and count filled in. The thread
    counts are those of one session, which the instances on the CPU share. `notes` are sentences for the log,
    `reason` says where counts and threads come from; `spins` whether idle threads of the session burn CPU
    while they wait, as the config may ask.
    """

    groups: tuple[InstanceGroup, ...]
    instances: tuple[Instance, ...]
    intra_op_threads: int
    inter_op_threads: int
    notes: tuple[str, ...]
    reason: str = ""
    spins: bool = False

    @property
    def text(self) -> str:
        """Instances, CPU threads each, whether idle ones spin, and in a word why: `2 x 1, no spin, rule`."""
        count = len(self.active)
        each = 1 + (self.intra_op_threads - 1) / count
        spin = "spin" if self.spins and self.intra_op_threads > 1 else "no spin"
        return f"{split_text(count, count * each)}, {spin}, {self.reason.partition(':')[0]}"

    @property
    def active(self) -> tuple[str, ...]:
        """The names of the instances that take requests."""
        return tuple(instance.name for instance in self.instances if not instance.passive)


def plan_instances(
    config: ModelConfig, plan: ProviderPlan, budget: CpuBudget, *, measured: MeasuredLayout | None = None
) -> InstanceLayout:
    """Lay out the instances of a model.

    Counts that the config names are obeyed. Otherwise a GPU has one instance, and the CPU what was measured
    or, where nothing was, one for each thread of the budget up to four: on small models two callers with a
    thread each do twice the work of one caller with two.

    The instances on the CPU share one session and its pool of threads. A running instance is itself one of
    the threads, so the pool adds what the budget holds beyond one thread an instance.

    Args:
        config: the model's.
        plan: the execution providers, which say whether there is a GPU.
        budget: the CPU threads that may be busy at once.
        measured: the instances that were found best, where `is_open` says that the config leaves it open.

    Raises:
        InvalidArgumentError: a group names a GPU that is not visible, every group is passive, or a thread
            count is not one.
    """
    settings = read_session_settings(config)
    count = measured.instances if measured else _cpu_instances(settings, budget)
    groups = tuple(_groups(config, plan, count))
    if groups and all(group.passive for group in groups):
        raise InvalidArgumentError(
            f"every instance group of model {config.name} is passive: no instance would take requests"
        )
    on_cpu = [group for group in groups if group.kind is not InstanceKind.GPU]
    cpu_count = sum(group.count for group in on_cpu if not group.passive)
    intra_op_threads, inter_op_threads = _threads(settings, budget, cpu_count)
    return InstanceLayout(
        groups=groups,
        instances=tuple(_instances(groups)),
        intra_op_threads=intra_op_threads,
        inter_op_threads=inter_op_threads,
        notes=tuple(_notes(config, settings, budget, cpu_count)),
        reason=measured.reason if measured else _reason(config, settings, budget, cpu_count),
        spins=settings.entries.get(_SPINNING) == "1",
    )


def is_open(config: ModelConfig) -> bool:
    """Whether the server may choose how many instances of the model share the CPU threads.

    Instances of a sequence model hold sequences, so their number must not depend on a measurement; in
    parallel mode the threads are split in another way.
    """
    settings = read_session_settings(config)
    groups = config.instance_groups
    named = any(group.count > 0 or group.passive for group in groups) or len(groups) > 1
    return not (
        named or settings.intra_op_threads or settings.parallel or config.sequence_batching is not None
    )


def candidates(threads: int, *, most: int) -> tuple[int, ...]:
    """Numbers of instances that are worth trying for so many CPU threads: all of them, half, … 1.

    Args:
        threads: of the budget.
        most: instances that memory has room for, at least 1.
    """
    counts = [threads]
    while counts[-1] > 1:
        counts.append(counts[-1] // 2)
    return tuple(count for count in counts if count <= most)


def split_text(instances: int, threads: float) -> str:
    """So many instances and what each has of the threads: `4 x 2`."""
    return f"{instances} x {max(1.0, threads / instances):.3g}"


def list_layouts(counts: Sequence[int], threads: float) -> str:
    """Several of these, for a sentence: `8 x 2, 2 x 8 and 1 x 16`."""
    *others, last = (split_text(count, threads) for count in counts)
    return f"{', '.join(others)} and {last}" if others else last


def _cpu_instances(settings: SessionSettings, budget: CpuBudget) -> int:
    """As many as the budget feeds; with threads named by the config, as many such sessions as fit."""
    named = settings.intra_op_threads or 1
    return max(1, min(budget.threads // named, RULE_INSTANCES))


def _threads(settings: SessionSettings, budget: CpuBudget, cpu_count: int) -> tuple[int, int]:
    """Threads within an operator and across operators, for one session."""
    # On a GPU the CPU only feeds it: more threads would wait beside each other.
    share = max(1, budget.threads - cpu_count + 1) if cpu_count else 1
    if not settings.parallel:
        return settings.intra_op_threads or share, settings.inter_op_threads or 1
    # In parallel mode there are two pools, so each is given half.
    return settings.intra_op_threads or max(1, share // 2), settings.inter_op_threads or (share + 1) // 2


def _groups(config: ModelConfig, plan: ProviderPlan, cpu_instances: int) -> Iterator[InstanceGroup]:
    for index, group in enumerate(config.instance_groups):
        kind = _kind(group, plan)
        name = group.name or f"{config.name}_{index}"
        count = group.count if group.count > 0 else 1 if kind is InstanceKind.GPU else cpu_instances
        gpus = _gpus(config, group, plan) if kind is InstanceKind.GPU else ()
        yield replace(group, name=name, kind=kind, count=count, gpus=gpus)
    if not config.instance_groups:
        if plan.on_gpu:
            yield InstanceGroup(config.name, InstanceKind.GPU, 1, tuple(range(plan.gpu_count)))
        else:
            yield InstanceGroup(config.name, InstanceKind.CPU, cpu_instances)


def _kind(group: InstanceGroup, plan: ProviderPlan) -> InstanceKind:
    """Where the group really runs; the plan's fallbacks say why a GPU is not used."""
    if group.kind is InstanceKind.AUTO:
        usable = plan.on_gpu and all(gpu < plan.gpu_count for gpu in group.gpus)
        return InstanceKind.GPU if usable else InstanceKind.CPU
    if group.kind is InstanceKind.GPU and not plan.on_gpu:
        return InstanceKind.CPU
    return group.kind


def _gpus(config: ModelConfig, group: InstanceGroup, plan: ProviderPlan) -> tuple[int, ...]:
    for gpu in group.gpus:
        if not 0 <= gpu < plan.gpu_count:
            raise InvalidArgumentError(
                f"instance group {group.name} of model {config.name} specifies invalid or unsupported "
                f"gpu id {gpu}. Visible GPUs: {', '.join(map(str, range(plan.gpu_count)))}"
            )
    return group.gpus or tuple(range(plan.gpu_count))


def _instances(groups: Sequence[InstanceGroup]) -> Iterator[Instance]:
    for group in groups:
        for gpu in group.gpus or (None,):
            device = f"_gpu{gpu}" if len(group.gpus) > 1 else ""
            for index in range(group.count):
                yield Instance(f"{group.name}_{index}{device}", gpu, group.passive, group.rate_limit)


def _notes(
    config: ModelConfig, settings: SessionSettings, budget: CpuBudget, cpu_count: int
) -> Iterator[str]:
    if not cpu_count:
        return
    threads = settings.intra_op_threads
    if threads and not config.instance_groups:
        yield (
            f"intra_op_thread_count is {threads} and no instance_group is named: "
            f"{_counted(cpu_count)} for {_counted(budget.threads, 'CPU thread')}"
        )
    if settings.entries.get(_SPINNING) == "1" and _threads(settings, budget, cpu_count)[0] > 1:
        yield (
            f"idle threads spin ({_SPINNING}): they take the CPU from the server's other threads and models"
        )
    busy = cpu_count + (threads or 1) - 1
    if busy > budget.threads:
        yield (
            f"{_counted(cpu_count)} sharing a pool of {_counted(threads or 1, 'thread')} "
            f"want{'s' * (cpu_count == 1)} {busy} CPUs, "
            f"the budget is {budget.threads} ({budget.reason})"
        )


def _counted(count: int, noun: str = "instance") -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _reason(config: ModelConfig, settings: SessionSettings, budget: CpuBudget, cpu_count: int) -> str:
    if not cpu_count:
        return "GPU: its instances need the CPU only to be fed"
    if any(group.count > 0 for group in config.instance_groups) or settings.intra_op_threads:
        return "config: its instance_group and intra_op_thread_count are obeyed"
    each = "one instance a CPU thread" + f" up to {RULE_INSTANCES}" * (budget.threads > RULE_INSTANCES)
    return f"rule: {each}"
