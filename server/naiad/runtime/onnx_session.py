"""A `Session` on ONNX Runtime: every datatype in and out, and opening one with the providers that work."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

from naiad.core.datatypes import DataType
from naiad.core.errors import CancelledError, NaiadError, UnsupportedError
from naiad.runtime.cuda.graph_options import captures_graphs, with_cuda_graphs
from naiad.runtime.engine_errors import clean_message, open_error, run_error
from naiad.runtime.engine_types import tensor_spec
from naiad.runtime.onnx_binding import NO_GRAPH, OnnxBinding
from naiad.runtime.ort_environment import import_onnxruntime
from naiad.runtime.providers import CPU, CUDA, GPU_PROVIDERS
from naiad.runtime.session_settings import read_session_settings
from naiad.runtime.text import to_bytes, to_texts

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import Array, Tensors, TensorSpec
    from naiad.runtime.graph import PreparedModel
    from naiad.runtime.onnx_binding import Place
    from naiad.runtime.providers import Provider, ProviderPlan
    from naiad.runtime.session_settings import SessionSettings

_ONNX_BFLOAT16 = 16  # TensorProto.BFLOAT16; numpy has no such type
_LOG_NOTHING = 4  # what goes wrong is raised, and said once


class OnnxSession:
    """A graph in ONNX Runtime. `run` may be called from several threads at once."""

    def __init__(
        self,
        session: Any,
        *,
        unranked: Collection[str] = (),
        dropped: Mapping[str, str] | None = None,
        arena_shrinkage: str | None = None,
        captures: bool = False,
        notes: Sequence[str] = (),
        profiled: bool = False,
    ) -> None:
        """Wrap an `onnxruntime.InferenceSession`.

        Args:
            session: the engine's session.
            unranked: inputs and outputs whose shape is unknown; the engine shows them as scalars.
            dropped: the planned providers that are not used, with the reason.
            arena_shrinkage: devices whose memory arena shrinks after each run.
            captures: whether runs can become CUDA graphs; those of `run` never do.
            notes: what was decided on opening it.
            profiled: whether it writes a profile, which ends when it is closed.

        Raises:
            UnsupportedError: an input or output is not a tensor of one of the protocol's datatypes.
        """
        self._session = session
        self.dropped = dict(dropped or {})
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        overridable = session.get_overridable_initializers()
        self.overridable = frozenset(value.name for value in overridable)
        self._inputs = tuple(
            tensor_spec("input", value, unranked) for value in (*session.get_inputs(), *overridable)
        )
        self._outputs = tuple(tensor_spec("output", value, unranked) for value in session.get_outputs())
        self._ort = import_onnxruntime()
        self._errors = _engine_errors(self._ort)
        self._arena_shrinkage = arena_shrinkage
        self.captures = captures
        self.notes = tuple(notes)
        self._profiled = profiled
        self._run_options = self._new_run_options()
        self._text_inputs = _names(self._inputs, DataType.BYTES)
        self._bf16_inputs = _names(self._inputs, DataType.BF16)
        self._text_outputs = _names(self._outputs, DataType.BYTES)
        self._bf16_outputs = _names(self._outputs, DataType.BF16)
        self._plain = not (self._text_inputs or self._bf16_inputs or self._text_outputs or self._bf16_outputs)
        if self._text_inputs and self._bf16_outputs:
            # BF16 results need OrtValues, which cannot be made of text.
            raise UnsupportedError(
                f"a model with BYTES input '{min(self._text_inputs)}' and BF16 output "
                f"'{min(self._bf16_outputs)}' is not supported"
            )

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU provider is in use."""
        return not GPU_PROVIDERS.isdisjoint(self.providers)

    def inputs(self) -> Sequence[TensorSpec]:
        """The inputs in graph order, those that may be left out (`overridable`) last."""
        return self._inputs

    def outputs(self) -> Sequence[TensorSpec]:
        """The outputs in graph order."""
        return self._outputs

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        """Run the graph; see `Session.run`."""
        return self.run_with(inputs, outputs, self._run_options)

    def run_with(self, inputs: Tensors, outputs: Sequence[str], options: Any) -> dict[str, Array]:
        """Run the graph with the engine's run options.

        Raises:
            CancelledError: the options' `terminate` was set, which the engine looks at between two nodes.
            NaiadError: as `Session.run`.
        """
        if not outputs:
            return {}  # the engine takes an empty list for all of them
        feeds = inputs if isinstance(inputs, dict) else dict(inputs)
        try:
            if self._plain:
                return dict(zip(outputs, self._session.run(outputs, feeds, options), strict=True))
            return self._run_converting(feeds, outputs, options)
        except self._errors as error:
            raise _told(error, options) from error

    def for_instance(self) -> OnnxInstanceSession:
        """This session with run options of the instance's own."""
        return OnnxInstanceSession(self, self._new_run_options())

    def bind(
        self, inputs: Sequence[Place], outputs: Sequence[Place | str], device: tuple[str, int], graph: int
    ) -> OnnxBinding:
        """Fix where the tensors lie for all further runs of one shape.

        Args:
            inputs: every input of the graph.
            outputs: the outputs; of those given as a name alone the engine allocates the memory in each run.
            device: the engine's name of the memory's kind, and its number.
            graph: the CUDA graph that the run becomes, counted from 1; `NO_GRAPH` for none.

        Raises:
            NaiadError: the engine refuses.
        """
        options = self._new_run_options(graph)
        if not self.captures:
            # The engine's wrapper asks for it in each bound run, where a missing entry is a costly exception.
            options.add_run_config_entry("gpu_graph_id", str(NO_GRAPH))
        binding = OnnxBinding(self._session, options, self._errors, _told)
        binding.bind(inputs, outputs, device)
        return binding

    def close(self) -> None:
        """Free the graph, and write its profile where there is one. Safe to call twice."""
        if self._profiled and self._session is not None:
            self._session.end_profiling()
        self._session = None

    def _new_run_options(self, graph: int = NO_GRAPH) -> Any:
        options = self._ort.RunOptions()
        if self.captures:
            # A graph replays the addresses that it was captured with: only bound runs may become one.
            options.add_run_config_entry("gpu_graph_id", str(graph))
        if self._arena_shrinkage is not None:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", self._arena_shrinkage)
        return options

    def _run_converting(self, inputs: Tensors, outputs: Sequence[str], options: Any) -> dict[str, Array]:
        feeds = {name: self._to_engine(name, array) for name, array in inputs.items()}
        if self._bf16_outputs.isdisjoint(outputs):
            values = self._session.run(outputs, feeds, options)
        else:
            from_numpy = self._ort.OrtValue.ortvalue_from_numpy
            wrapped = {
                name: feed if name in self._bf16_inputs else from_numpy(feed) for name, feed in feeds.items()
            }
            values = self._session.run_with_ort_values(outputs, wrapped, options)
        return {name: self._from_engine(name, value) for name, value in zip(outputs, values, strict=True)}

    def _to_engine(self, name: str, array: Array) -> Any:
        if name in self._text_inputs:
            return to_texts(array)
        if not array.flags.c_contiguous:
            array = array.copy()  # an OrtValue is a view of the memory as it lies
        if name in self._bf16_inputs:
            return self._ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _ONNX_BFLOAT16)
        return array

    def _from_engine(self, name: str, value: Any) -> Array:
        if name in self._bf16_outputs:
            return _bf16_bits(value)
        array: Array = value if isinstance(value, np.ndarray) else value.numpy()
        return to_bytes(array) if name in self._text_outputs else array


class OnnxInstanceSession:
    """An `OnnxSession` as one instance runs it: `terminate` ends this instance's run and no other's.

    The run options are made once: the engine reads their flag, and a reset costs less than new ones.
    """

    def __init__(self, session: OnnxSession, options: Any) -> None:
        self._session = session
        self._options = options

    def inputs(self) -> Sequence[TensorSpec]:
        """Those of the session."""
        return self._session.inputs()

    def outputs(self) -> Sequence[TensorSpec]:
        """Those of the session."""
        return self._session.outputs()

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        """Run the graph; see `Session.run`. Raises CancelledError when it was terminated."""
        return self._session.run_with(inputs, outputs, self._options)

    def terminate(self) -> None:
        """End the run at work, or the next one, before its next node."""
        self._options.terminate = True

    def rearm(self) -> None:
        """Let runs go to their end again."""
        self._options.terminate = False

    def close(self) -> None:
        """Nothing: the graph is the session's, whose owner closes it."""


def open_session(
    prepared: PreparedModel,
    config: ModelConfig,
    plan: ProviderPlan,
    intra_op_threads: int,
    inter_op_threads: int,
    *,
    spin: bool = False,
    graphs: bool = False,
    profile: Path | None = None,
) -> OnnxSession:
    """Open a session with the first providers of the plan that work.

    Providers that cannot be created are left out, one after the other; `OnnxSession.dropped` says why.

    Args:
        prepared: the model.
        config: its optimisation level and session parameters are read.
        plan: the providers to try.
        intra_op_threads: threads within an operator, the caller's own included.
        inter_op_threads: threads across operators; used in parallel execution mode only.
        spin: let idle threads burn CPU in wait of work: only where one session has the machine for itself.
        graphs: let runs on CUDA become CUDA graphs, if the model suits; `OnnxSession.captures` says whether.
        profile: where to write a profile of all runs: the start of the file's path.

    Raises:
        InvalidArgumentError: the engine refuses the model, or a parameter is wrong.
        UnsupportedError: the model needs an operator or a datatype that is not there.
    """
    settings = read_session_settings(config)
    ort = import_onnxruntime()
    errors = _engine_errors(ort)
    remaining = list(plan.providers)
    dropped: dict[str, str] = {}
    notes: list[str] = []
    while True:
        options = _session_options(ort, settings, prepared, intra_op_threads, inter_op_threads, spin=spin)
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        graphs = graphs and remaining[0].name == CUDA
        try:
            session = _create(ort, prepared, options, with_cuda_graphs(remaining) if graphs else remaining)
        except errors as error:
            if graphs:
                graphs = False
                notes.append(f"no CUDA graphs: {clean_message(str(error))}")
                continue
            if remaining[0].name == CPU:
                raise open_error(error) from error
            dropped[remaining.pop(0).name] = clean_message(str(error))
            continue
        dropped |= _silently_dropped(session, remaining)
        return OnnxSession(
            session,
            unranked=prepared.unranked,
            dropped=dropped,
            arena_shrinkage=settings.arena_shrinkage,
            captures=captures_graphs(session.get_provider_options()),
            # A provider that cannot be had at all has nothing to say about graphs.
            notes=notes if CUDA in session.get_providers() else (),
            profiled=profile is not None,
        )


def _create(ort: Any, prepared: PreparedModel, options: Any, providers: Sequence[Provider]) -> Any:
    session = ort.InferenceSession(
        prepared.source,
        options,
        providers=[(provider.name, dict(provider.options)) for provider in providers],
        enable_fallback=0,  # the engine's own fallback prints, and hides what happened
    )
    # The engine keeps the model's bytes for that fallback: a second copy of every weight.
    session._model_bytes = None  # noqa: SLF001  # there is no public way to let go of them
    return session


def _silently_dropped(session: Any, planned: Sequence[Provider]) -> dict[str, str]:
    """The engine logs a GPU provider whose libraries do not load, and goes on without it."""
    used = set(session.get_providers())
    return {
        provider.name: "its libraries could not be loaded: check the CUDA, cuDNN and TensorRT versions"
        for provider in planned
        if provider.name not in used
    }


def _session_options(
    ort: Any,
    settings: SessionSettings,
    prepared: PreparedModel,
    intra_op_threads: int,
    inter_op_threads: int,
    *,
    spin: bool,
) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = _LOG_NOTHING
    # Explicit counts also keep the engine from pinning threads to CPUs that this process may not have.
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = inter_op_threads
    mode = ort.ExecutionMode
    options.execution_mode = mode.ORT_PARALLEL if settings.parallel else mode.ORT_SEQUENTIAL
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, settings.optimization)
    options.enable_cpu_mem_arena = settings.memory_arena
    pattern = settings.memory_pattern
    options.enable_mem_pattern = not prepared.has_free_dims if pattern is None else pattern
    entries = {
        "session.intra_op.allow_spinning": str(int(spin)),
        "session.inter_op.allow_spinning": str(int(spin)),
        **settings.entries,
    }
    if prepared.data_folder is not None:
        entries["session.model_external_initializers_file_folder_path"] = prepared.data_folder
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return options


def _engine_errors(ort: Any) -> tuple[type[Exception], ...]:
    """Everything the engine raises: its classes have no base of their own, its bindings use Python's."""
    state = ort.capi.onnxruntime_pybind11_state
    own = [
        value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)
    ]
    return (*own, ValueError, RuntimeError, TypeError)


def _told(error: Exception, options: Any) -> NaiadError:
    """What to raise for what a run raised."""
    if options.terminate:
        return CancelledError("the run was ended: nobody waited for it any more")
    return run_error(error)


def _names(specs: Sequence[TensorSpec], datatype: DataType) -> frozenset[str]:
    return frozenset(spec.name for spec in specs if spec.datatype is datatype)


def _bf16_bits(value: Any) -> Array:
    """Copy the bits out of an OrtValue on the CPU, whose own `numpy()` knows no such type."""
    bits = np.empty(value.shape(), dtype=np.uint16)
    if bits.nbytes:
        ctypes.memmove(bits.ctypes.data, value.data_ptr(), bits.nbytes)
    return bits
