"""A model of Triton's Python backend: the same ONNX Runtime session as every other server of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as backend


class TritonPythonModel:
    """One instance: one session of one thread in a process of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the model that lies beside this file."""
        config = json.loads(args["model_config"])
        self._batches = config["max_batch_size"] > 1
        self._inputs = [value["name"] for value in config["input"]]
        self._outputs = [value["name"] for value in config["output"]]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(config["parameters"]["threads"]["string_value"])
        options.log_severity_level = 3
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run the requests that Triton's batcher put together as one batch."""
        feeds = [
            {name: backend.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}
            for request in requests
        ]
        if len(feeds) == 1 or not self._batches:
            return [self._response(self._session.run(self._outputs, feed)) for feed in feeds]
        rows = [len(feed[self._inputs[0]]) for feed in feeds]
        batch = {name: np.concatenate([feed[name] for feed in feeds]) for name in self._inputs}
        ends = np.cumsum(rows)[:-1]
        parts = [np.split(output, ends) for output in self._session.run(self._outputs, batch)]
        return [self._response(list(each)) for each in zip(*parts, strict=True)]

    def _response(self, outputs: list[Any]) -> Any:
        tensors = [backend.Tensor(name, output) for name, output in zip(self._outputs, outputs, strict=True)]
        return backend.InferenceResponse(output_tensors=tensors)
