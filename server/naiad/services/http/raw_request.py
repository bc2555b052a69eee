"""A request that is nothing but its only input's bytes, told by a JSON part of no length."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tritonclient.grpc import model_config_pb2
from tritonclient.grpc import service_pb2 as pb

from naiad.config.vision_parameters import ACCEPTS, ENCODED
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import WILDCARD
from naiad.services.http.infer_json import ParsedInfer
from naiad.vision.decoders import FORMATS

if TYPE_CHECKING:
    from naiad.core.errors import NaiadError
    from naiad.services.http.service import Triton

HEADER = "Inference-Header-Content-Length"
_JSON_BEGINS = b"{"
_BLANKS = b" \t\r\n"
_LOOKED_AT = 64


def parse_raw(triton: Triton, name: str, version: str, body: memoryview) -> ParsedInfer:
    """The request for a batch of one, its shape deduced from the model's config and the bytes.

    An image file, sent to a model that accepts such, is a picture, and is answered in JSON.

    Raises:
        NaiadError: there is no such model, or more than one shape would fit.
    """
    config = triton.model_config(pb.ModelConfigRequest(name=name, version=version)).config
    if len(config.input) != 1:
        raise InvalidArgumentError(
            f"Raw request must only have 1 input (found 1) to be deduced but got {len(config.input)} inputs "
            f"in '{name}' model configuration"
        )
    tensor = config.input[0]
    if _is_picture(config, body):
        message = pb.ModelInferRequest(model_name=name, model_version=version)
        message.inputs.add(name=tensor.name, datatype=DataType.BYTES.value, shape=[1])
        # Who sends a file by hand wants to read the faces.
        return ParsedInfer(message, [[bytes(body)]], binary_default=False)
    datatype = DataType.from_config_name(model_config_pb2.DataType.Name(tensor.data_type))
    dims = _dims(tensor.name, list(tensor.dims), datatype, body.nbytes)
    message = pb.ModelInferRequest(model_name=name, model_version=version)
    message.inputs.add(
        name=tensor.name, datatype=datatype.value, shape=[1, *dims] if config.max_batch_size else dims
    )
    data = [bytes(body)] if datatype is DataType.BYTES else body
    return ParsedInfer(message, [data], binary_default=True)


def image_kind(body: memoryview, content_type: str) -> str:
    """What kind of image file a body that should be JSON is, by its bytes or else by its type; "" if none.

    A text that begins as JSON does is that, whatever its type says.
    """
    start = bytes(body[:_LOOKED_AT]).lstrip(_BLANKS)
    if not start or start.startswith(_JSON_BEGINS):
        return ""  # nearly always
    if any(image_format.matches(body) for image_format in FORMATS):
        return "an image file"
    kind = content_type.partition(";")[0].strip().lower()
    return f"of type {kind}" if kind.startswith("image/") else ""


def picture_without_header(triton: Triton, name: str, version: str, kind: str) -> NaiadError:
    """What to do instead, for who sent an image file as if it were JSON; `kind` as `image_kind` says it."""
    config = triton.model_config(pb.ModelConfigRequest(name=name, version=version)).config
    if not _accepts_pictures(config):
        advice = (
            f"model '{name}' takes no image files: its config would have to say {ACCEPTS} \"{ENCODED}\", and "
            f"the call the header '{HEADER}: 0'"
        )
    elif len(config.input) != 1:
        advice = f"model '{name}' has {len(config.input)} inputs: send it as binary data behind the JSON"
    else:
        advice = f"send it with the header '{HEADER}: 0'"
    return InvalidArgumentError(f"failed to parse the request JSON buffer: the body is {kind}; {advice}")


def _is_picture(config: model_config_pb2.ModelConfig, body: memoryview) -> bool:
    """Whether the body is an image file and the model takes such; one as long as its tensor is that."""
    if not _accepts_pictures(config):
        return False
    [tensor] = config.input
    datatype = DataType.from_config_name(model_config_pb2.DataType.Name(tensor.data_type))
    if body.nbytes == math.prod(tensor.dims) * datatype.itemsize:
        return False
    return any(image_format.matches(body) for image_format in FORMATS)


def _accepts_pictures(config: model_config_pb2.ModelConfig) -> bool:
    return ACCEPTS in config.parameters and config.parameters[ACCEPTS].string_value == ENCODED


def _dims(name: str, dims: list[int], datatype: DataType, size: int) -> list[int]:
    if dims.count(WILDCARD) > 1:
        raise InvalidArgumentError(
            f"The shape of the raw input '{name}' can not be deduced because there are more than one "
            "variable-sized dimension"
        )
    known = 1
    for dim in dims:
        known *= dim if dim != WILDCARD else 1
    if datatype is DataType.BYTES and (WILDCARD in dims or known != 1):
        raise InvalidArgumentError(
            f"For BYTE datatype raw input '{name}', the model must have input shape [1]"
        )
    row = known * max(1, datatype.itemsize)
    return [size // row if dim == WILDCARD and row else dim for dim in dims]
