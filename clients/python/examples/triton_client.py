"""Runs any model with NVIDIA's own client, unchanged (needs tritonclient[grpc]): zeros in, shapes out."""

from __future__ import annotations

import argparse

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import triton_to_np_dtype


def main(argv: list[str] | None = None) -> int:
    """Print one line an output; 1 if the model is not ready."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--address", default="localhost:8001")
    parser.add_argument("--version", default="", help="a version folder's number")
    arguments = parser.parse_args(argv)
    with triton.InferenceServerClient(arguments.address) as client:
        if not client.is_model_ready(arguments.model, arguments.version):
            print(f"model {arguments.model} is not ready at {arguments.address}")
            return 1
        inputs = []
        for tensor in client.get_model_metadata(arguments.model, arguments.version).inputs:
            shape = [max(1, size) for size in tensor.shape]  # -1 is any size
            inputs.append(triton.InferInput(tensor.name, shape, tensor.datatype))
            inputs[-1].set_data_from_numpy(np.zeros(shape, triton_to_np_dtype(tensor.datatype)))
        result = client.infer(arguments.model, inputs, arguments.version)
        for output in result.get_response().outputs:
            print(output.name, output.datatype, result.as_numpy(output.name).shape)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
