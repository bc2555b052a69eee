"""Which provider options make runs CUDA graphs. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from naiad.runtime.provider_options import CUDA_GRAPH_OPTION
from naiad.runtime.providers import CUDA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from naiad.runtime.providers import Provider

_TENSORRT_GRAPH_OPTION = "trt_cuda_graph_enable"
_SET = frozenset({"1", "true", "True"})


def with_cuda_graphs(providers: Sequence[Provider]) -> list[Provider]:
    """The same providers, CUDA with graphs."""
    return [
        replace(provider, options={**provider.options, CUDA_GRAPH_OPTION: "1"})
        if provider.name == CUDA
        else provider
        for provider in providers
    ]


def captures_graphs(options: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether a session with these options, by provider, makes a graph of any run that does not forbid it."""
    keys = (CUDA_GRAPH_OPTION, _TENSORRT_GRAPH_OPTION)
    return any(str(values.get(key)) in _SET for values in options.values() for key in keys)
