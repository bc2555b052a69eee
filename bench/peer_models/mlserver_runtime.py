"""An MLServer runtime: the same ONNX Runtime session as every other server of a run."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver_counters import COUNTERS, Counter


class OnnxRuntime(MLModel):  # type: ignore[misc]  # the base is of another environment
    """One session, run by as many threads as there are instances elsewhere."""

    async def load(self) -> bool:
        """Open the model of the settings."""
        parameters = self.settings.parameters
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = parameters.extra["threads"]
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(parameters.uri, options, providers=providers)
        self._names = [output.name for output in self._session.get_outputs()]
        self._threads = ThreadPoolExecutor(parameters.extra["instances"])
        self._counter = COUNTERS.setdefault(self.name, Counter())
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Run one request, or the batch that MLServer's adaptive batching made of several."""
        feeds = {value.name: NumpyCodec.decode_input(value) for value in payload.inputs}
        run = asyncio.get_running_loop().run_in_executor
        outputs = await run(self._threads, self._session.run, self._names, feeds)
        self._counter.inferences += len(next(iter(feeds.values())))
        self._counter.executions += 1
        encoded = [
            NumpyCodec.encode_output(name, output) for name, output in zip(self._names, outputs, strict=True)
        ]
        return InferenceResponse(id=payload.id, model_name=self.name, outputs=encoded)
