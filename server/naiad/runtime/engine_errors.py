"""The engine's exceptions in the domain's words, without C++ source paths. Pure."""

from __future__ import annotations

import re

from naiad.core.errors import InternalError, InvalidArgumentError, NaiadError, UnsupportedError

_PREFIX = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_SUFFIXES = r"\.(?:cc|cpp|cu|cuh|h|hpp|inc):\d+ "
# A path with line, then the signature of the function: return type, name, arguments, qualifiers.
_SIGNED_PLACE = re.compile(
    r"/[^\s:]*" + _SUFFIXES + r"(?:[^()\n]*\([^()]*\)(?: const)?(?: \[with [^\]]*\])? ?)?"
)
# A bare file name with line, then the name of the function alone.
_BARE_PLACE = re.compile(r"\b\w+" + _SUFFIXES + r"\w+ ")


def clean_message(text: str) -> str:
    """The engine's text on one line, without its error prefix and source places."""
    for pattern in (_PREFIX, _SIGNED_PLACE, _BARE_PLACE):
        text = pattern.sub("", text)
    return " ".join(text.split())


def open_error(error: Exception) -> NaiadError:
    """What to raise when the engine refuses a model: the file is at fault, or an operator is missing."""
    message = clean_message(str(error))
    if type(error).__name__ == "NotImplemented":
        return UnsupportedError(message)
    return InvalidArgumentError(message)


def run_error(error: Exception) -> NaiadError:
    """What to raise when a run fails: the caller's fault only where the engine blames the inputs."""
    message = clean_message(str(error))
    if isinstance(error, UnicodeDecodeError):
        return InternalError(f"the model's text output is not UTF-8: {message}")
    # The engine's own classes have no common base and cannot be imported without it.
    if isinstance(error, ValueError) or type(error).__name__ == "InvalidArgument":
        return InvalidArgumentError(message)
    return InternalError(message)
