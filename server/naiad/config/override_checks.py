"""What a config that comes by RPC may not say, though a file in the repository may."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from naiad.core.errors import UnsupportedError

if TYPE_CHECKING:
    from naiad.config.messages import Message

# Engine caches, plugins, calibration tables, provider configs: what they name is read as code or written.
_NAMES_FILES = re.compile(r"path|file|dir|lib|prefix|table_name|load_config|dump", re.IGNORECASE)


def check_override(message: Message) -> None:
    """Refuse parameters of execution accelerators that name files or libraries of the server's machine.

    Custom operators and agents are refused by the support table, other backends when the model is loaded.

    Raises:
        UnsupportedError: names the first such parameter.
    """
    accelerators = message.optimization.execution_accelerators
    for entry in (*accelerators.gpu_execution_accelerator, *accelerators.cpu_execution_accelerator):
        for key in sorted(entry.parameters):
            if _NAMES_FILES.search(key):
                raise UnsupportedError(
                    f"parameter '{key}' of execution accelerator '{entry.name}' is not taken from a load "
                    "request, because it names files of the server: write it into config.pbtxt"
                )
