"""The engine's exceptions in the domain's words, without C++ source paths. Pure."""

from __future__ import annotations

import re

from naiad.core.errors import InternalError, InvalidArgumentError, NaiadError

_PREFIX = re.compile(r"\[ONNXRuntimeError\] : (\d+) : [A-Z_]+ : ")
_BOUND = "Error in execution: "  # of a bound run, whose code the engine's bindings leave out
_SUFFIXES = r"\.(?:cc|cpp|cu|cuh|h|hpp|inc):\d+ "
# A path with line, then the signature of the function: return type, name, arguments, qualifiers.
_SIGNED_PLACE = re.compile(
    r"/[^\s:]*" + _SUFFIXES + r"(?:[^()\n]*\([^()]*\)(?: const)?(?: \[with [^\]]*\])? ?)?"
)
# A bare file name with line, then the name of the function alone.
_BARE_PLACE = re.compile(r"\b\w+" + _SUFFIXES + r"\w+ ")


def clean_message(text: str) -> str:
    """The engine's text on one line, without source places; its code is told as Triton tells it."""
    text = text.removeprefix(_BOUND)
    code = _PREFIX.search(text)
    for pattern in (_PREFIX, _SIGNED_PLACE, _BARE_PLACE):
        text = pattern.sub("", text)
    cleaned = " ".join(text.split())
    return f"onnx runtime error {code.group(1)}: {cleaned}" if code else cleaned


def open_error(error: Exception) -> NaiadError:
    """What to raise when the engine refuses a model. Triton's kind: whatever the engine says is internal."""
    return InternalError(clean_message(str(error)))


def run_error(error: Exception) -> NaiadError:
    """What to raise when a run fails: the caller's fault only where the engine blames the inputs."""
    message = clean_message(str(error))
    if isinstance(error, UnicodeDecodeError):
        return InternalError(f"the model's text output is not UTF-8: {message}")
    # The engine's own classes have no common base and cannot be imported without it.
    if isinstance(error, ValueError) or type(error).__name__ == "InvalidArgument":
        return InvalidArgumentError(message)
    return InternalError(message)
