"""Faces from a plain Triton server: what Naiad does around a model happens here, Triton runs the model.

`Client(address, mode="triton")` is how to use it. The stubs of this package have the methods of
`VisionServiceStub` and need no Naiad server: pictures are decoded and pre-processed in this process, by the
code that the server uses, as the models' configs say; tensors go to Triton's `ModelInfer`.
"""

from __future__ import annotations

from naiad_client.triton.aio import AsyncTritonVisionStub
from naiad_client.triton.stub import TritonVisionStub
from naiad_client.triton.vision import TritonSettings

__all__ = ["AsyncTritonVisionStub", "TritonSettings", "TritonVisionStub"]
