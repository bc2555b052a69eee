"""Admission and inference: what every service calls to have a request answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from naiad.core.tensors import InferRequest, InferResponse
    from naiad.lifecycle.caller import Caller
    from naiad.lifecycle.manager import ModelManager
    from naiad.lifecycle.version import ModelHandle


class DataPlane:
    """Finds the version that answers, and runs requests. Used on the event loop's thread.

    Who comes while the server drains is refused by the front ends: they know who came before.
    """

    def __init__(self, manager: ModelManager) -> None:
        self.manager = manager
        self._accepting = True

    @property
    def accepting(self) -> bool:
        """False once the server drains."""
        return self._accepting

    def stop_accepting(self) -> None:
        """The server drains from now on: it is ready no more."""
        self._accepting = False

    def acquire(self, name: str, version: int | None, caller: Caller | None = None) -> ModelHandle:
        """A handle on the version that should answer; release it when the answer is done.

        Args:
            name: the model.
            version: the one asked for; None lets the server choose.
            caller: who asks; None for the one whose call the task works on.

        Raises:
            NotFoundError: no such model or version, or none is ready.
            UnavailableError: the version asked for is not ready.
        """
        return self.manager.acquire(name, version, caller)

    async def infer(self, handle: ModelHandle, request: InferRequest) -> InferResponse:
        """Queue a request that was validated against the handle's config, and wait for its answer.

        A cancelled caller leaves the queue at once; in a running batch only its own result is dropped.

        Raises:
            UnavailableError: the queue is full, or the version drains.
            DeadlineExceededError: the request's deadline passed in the queue.
            InvalidArgumentError: the graph refused this request's values.
            InternalError: the model failed.
        """
        return await handle.submit(request)
