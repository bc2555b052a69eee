"""The vision service in this process, with the models of a Triton server behind it."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import grpc
import structlog

from naiad.config.server_config import server_config
from naiad.core.errors import InvalidArgumentError, NaiadError, UnavailableError
from naiad.dataplane import DataPlane
from naiad.dataplane.decode_pool import DecodePool
from naiad.dataplane.faces import FacePlane
from naiad.dataplane.faces.also import MAX_ALSO_VERSIONS
from naiad.dataplane.frames.rooms import FrameRooms
from naiad.runtime.remote.fleet import Fleet
from naiad.runtime.remote.loader import RemoteEngine
from naiad.services.calls import Calls
from naiad.services.conversion import parse_version
from naiad.services.status import status_of
from naiad.services.vision import VisionService
from naiad.vision.images import ImageLimits
from naiad_client.triton.calls import CLOSED, AbortedError
from naiad_client.triton.models import TritonModels, Wanted, is_stale

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence

    from naiad.core.tensors import InferRequest, InferResponse
    from naiad.lifecycle.manager import ModelManager
    from naiad.lifecycle.version import ModelHandle

DEFAULT_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class TritonSettings:
    """How a client works with Triton.

    `calls` is how many requests of a model may be under way, `threads` how many pictures are decoded and
    pre-processed at once. `timeout_s` is for one answer of Triton's.
    """

    calls: int = 8
    threads: int = 2
    timeout_s: float = DEFAULT_TIMEOUT_S


class TritonVision:
    """The service and all it needs. Made, used and closed on one event loop's thread."""

    def __init__(
        self,
        address: str,
        settings: TritonSettings,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        options: Sequence[tuple[str, int | str]] = (),
        metadata: Sequence[tuple[str, str | bytes]] = (),
    ) -> None:
        _keep_quiet()
        self._fleet = Fleet(
            [address],
            timeout_s=settings.timeout_s,
            credentials=credentials,
            options=options,
            metadata=metadata,
        )
        self._threads = ThreadPoolExecutor(2, "naiad-triton")
        self._models = TritonModels(RemoteEngine(self._fleet, settings.calls), self._threads)
        # The limits are the server's defaults; it is the service's type that wants a repository.
        config = server_config({"model_repository": ["."]}, {})
        self._pool = DecodePool(settings.threads, config.max_pending_images)
        limits = ImageLimits(max_bytes=config.max_image_bytes, max_pixels=config.max_image_pixels)
        faces = FacePlane(_Plane(self._models), self._pool, limits)
        self._calls = Calls()
        self._running: set[asyncio.Task[Any]] = set()
        self.is_closed = False
        self.service = VisionService(faces, config, self._calls, FrameRooms(settings.threads))

    def transports(self) -> Mapping[str, str]:
        """How tensors go to each server, in words."""
        return self._fleet.transports()

    def check_open(self) -> None:
        """Refuse what is begun after `close`; raises AbortedError."""
        if self.is_closed:
            raise AbortedError(grpc.StatusCode.CANCELLED, CLOSED, ())

    async def prepare(self, message: Any) -> None:
        """Open the models that a request, or the options of a stream, asks for.

        Raises:
            AbortedError: as the service ends a call.
        """
        try:
            for wanted in _wanted(message):
                await self._models.prepare(wanted)
            for wanted in _also_wanted(message):
                name = self._models.embedder_name(wanted.name)
                if name:  # else the service says what is wrong
                    await self._models.prepare(Wanted(name, wanted.version))
        except NaiadError as error:
            raise aborted(error) from None

    def begin(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start a call, which `close` cancels."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """What `work` gives; raises grpc's error for the status that ended it."""
        try:
            return await work()
        except AbortedError as error:
            raise error.as_rpc_error() from None
        except NaiadError as error:
            raise aborted(error).as_rpc_error() from None

    async def close(self) -> None:
        """End all calls and threads."""
        self.is_closed = True
        self._calls.begin_drain()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._models.close()
        await asyncio.to_thread(self._close_rest)

    def _close_rest(self) -> None:
        self._fleet.close()  # first: a thread may wait for an answer
        self._pool.close()
        self._threads.shutdown()


class _Plane(DataPlane):
    """A data plane over models of another server."""

    def __init__(self, models: TritonModels) -> None:
        super().__init__(cast("ModelManager", models))
        self._models = models

    async def infer(self, handle: ModelHandle, request: InferRequest) -> InferResponse:
        """As `DataPlane.infer`; a version that is there no longer is forgotten: a retry finds another."""
        try:
            return await super().infer(handle, request)
        except NaiadError as error:
            if is_stale(error):
                self._models.forget(handle.key)
                raise UnavailableError(error.message) from None
            raise


def aborted(error: NaiadError) -> AbortedError:
    """The status of an error."""
    status = status_of(error)
    return AbortedError(status.code, status.message, status.trailers)


def _keep_quiet() -> None:
    """Let what the service logs go to the logger `naiad`: structlog's own default is the program's stdout."""
    if not structlog.is_configured():
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.processors.format_exc_info,
                structlog.processors.KeyValueRenderer(key_order=["event"]),
            ],
            logger_factory=lambda *_: logging.getLogger("naiad"),
            wrapper_class=structlog.stdlib.BoundLogger,
        )


def _wanted(message: Any) -> Iterator[Wanted]:
    """The models that a message names: itself, as an embedder, or as who finds the faces."""
    fields = message.DESCRIPTOR.fields_by_name
    for kind in ("model", "embedder"):
        if f"{kind}_name" in fields:
            yield _choice(getattr(message, f"{kind}_name"), getattr(message, f"{kind}_version"))
    if "finder" in fields and _needs_finder(message):
        yield _choice(message.finder.model_name, message.finder.model_version)


def _also_wanted(message: Any) -> Iterator[Wanted]:
    """The further versions of its embedder that a message names."""
    fields = message.DESCRIPTOR.fields_by_name
    if "also_versions" not in fields:
        return
    name = message.embedder_name if "embedder_name" in fields else message.model_name
    for version in message.also_versions[:MAX_ALSO_VERSIONS]:
        wanted = _choice(name, version)
        if wanted.version is not None:
            yield wanted


def _needs_finder(message: Any) -> bool:
    """Whether a detector has work: always in Analyze, in Embed if named, in Compare for whole pictures."""
    if "faces" in message.DESCRIPTOR.fields_by_name:
        return bool(message.HasField("finder"))
    if "first" in message.DESCRIPTOR.fields_by_name:
        sides = (message.first, message.second)
        return any(side.WhichOneof("source") == "image" and not side.HasField("landmarks") for side in sides)
    return True


def _choice(name: str, version: str) -> Wanted:
    try:
        return Wanted(name, parse_version(version))
    except InvalidArgumentError:
        return Wanted(name, None)  # the service refuses it, in its own words
