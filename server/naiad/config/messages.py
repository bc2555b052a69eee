"""Text of `config.pbtxt` to Triton's `ModelConfig` message: the one place that parses it."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pathlib import Path

Message = Any
"""A Triton `ModelConfig` message, or a message inside one; tritonclient ships no types."""

CONFIG_FILENAME = "config.pbtxt"
MAX_CONFIG_BYTES = 4 * 1024 * 1024
"""Real configs are a few KB; more is another kind of file under the wrong name."""


def new_message() -> Message:
    """An empty `ModelConfig` message."""
    return model_config_pb2.ModelConfig()


def parse_text(text: str, source: str) -> Message:
    """The `ModelConfig` message that `text` spells in protobuf's text format.

    Args:
        text: the content of a `config.pbtxt`.
        source: what to call it in an error, for example its path.

    Raises:
        InvalidArgumentError: a syntax error, an unknown field or a value out of range; names `source`,
            line and column.
    """
    message = new_message()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise InvalidArgumentError(f"{source}: {_describe(error)}") from None
    except ValueError as error:  # upb's own checks, which know no line
        raise InvalidArgumentError(f"{source}: {error}") from None
    return message


def read_file(path: Path, *, missing_ok: bool) -> Message:
    """The `ModelConfig` message in the file at `path`.

    Args:
        path: of the `config.pbtxt`.
        missing_ok: whether no file at all means an empty config. A dangling symlink is an error all the same.

    Raises:
        InvalidArgumentError: it is no regular file, cannot be read, is larger than `MAX_CONFIG_BYTES`, is
            not UTF-8, or is no `ModelConfig` in text format.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            # A pipe would block the server and a device might never end.
            raise InvalidArgumentError(f"{path} is not a regular file")
        size = status.st_size
        if size > MAX_CONFIG_BYTES:
            raise InvalidArgumentError(f"{path} has {size} bytes, a model config at most {MAX_CONFIG_BYTES}")
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        if missing_ok and isinstance(error, FileNotFoundError) and not path.is_symlink():
            return new_message()
        raise InvalidArgumentError(f"cannot read model config {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"{path} is not UTF-8 text: byte {error.start} is not valid") from None
    return parse_text(text, str(path))


def enum_name(message: Message, field: str) -> str:
    """The name of an enum field's value, for example `TYPE_FP32`."""
    descriptor = message.DESCRIPTOR.fields_by_name[field].enum_type
    number = getattr(message, field)
    value = descriptor.values_by_number.get(number)
    return value.name if value else str(number)


def _describe(error: text_format.ParseError) -> str:
    """`line 3, column 17: what is wrong`, without the position that the text itself starts with."""
    line, column = error.GetLine(), error.GetColumn()
    if line is None or column is None:
        return str(error)
    return f"line {line}, column {column}: {str(error).removeprefix(f'{line}:{column} : ')}"
