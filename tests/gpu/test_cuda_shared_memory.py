"""CUDA shared memory across two processes: a client's allocation, read and written by the server's regions."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from naiad.core.errors import InvalidArgumentError
from naiad.services.shared_memory.regions import Regions

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BYTE_SIZE = 1 << 20

# The handle of an allocation works only in another process than the one that made it. The client fills its
# memory with 0, 1, 2, …, prints the handle, waits for a line, and prints what its memory holds then.
PLAIN_CLIENT = """
import ctypes, sys
import numpy as np
from naiad.runtime.cuda.driver import load_runtime
size = int(sys.argv[1])
cuda = load_runtime()
def check(code):
    assert code == 0, code
pointer = ctypes.c_void_p()
check(cuda.cudaSetDevice(0))
check(cuda.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(size)))
data = np.arange(size, dtype=np.uint32).astype(np.uint8)
check(cuda.cudaMemcpy(pointer, ctypes.c_void_p(data.ctypes.data), ctypes.c_size_t(size), 1))
check(cuda.cudaDeviceSynchronize())
handle = (ctypes.c_char * 64)()
check(cuda.cudaIpcGetMemHandle(ctypes.byref(handle), pointer))
print(bytes(handle).hex(), flush=True)
sys.stdin.readline()
check(cuda.cudaMemcpy(ctypes.c_void_p(data.ctypes.data), pointer, ctypes.c_size_t(size), 2))
print(data[:64].tobytes().hex(), flush=True)
"""
TRITON_CLIENT = """
import base64, sys
import numpy as np
import tritonclient.utils.cuda_shared_memory as shm
size = int(sys.argv[1])
region = shm.create_shared_memory_region("c", size, 0)
shm.set_shared_memory_region(region, [np.arange(size, dtype=np.uint32).astype(np.uint8)])
print(base64.b64decode(shm.get_raw_handle(region)).hex(), flush=True)
sys.stdin.readline()
print(shm.get_contents_as_numpy(region, np.uint8, [size])[:64].tobytes().hex(), flush=True)
"""


class Client:
    """A process that owns GPU memory. `handle` is the memory's, of 64 bytes."""

    def __init__(self, program: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, str(BYTE_SIZE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.handle = bytes.fromhex(self._process.stdout.readline())

    def memory(self) -> bytes:
        """The first 64 bytes as the client sees them; the client ends."""
        return bytes.fromhex(self._process.communicate("\n", timeout=60)[0])

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def _has_tritonclient_cuda() -> bool:
    try:
        import tritonclient.utils.cuda_shared_memory  # noqa: F401, PLC0415  # its import is the question
    except (ImportError, RuntimeError):
        return False
    return True


@pytest.fixture(params=["plain", "tritonclient"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    if request.param == "tritonclient" and not _has_tritonclient_cuda():
        pytest.skip("tritonclient's CUDA utilities need the package cuda-python")
    made = Client(PLAIN_CLIENT if request.param == "plain" else TRITON_CLIENT)
    yield made
    made.close()


@pytest.fixture
def regions() -> Iterator[Regions]:
    made = Regions(allow_client_shm=True)
    yield made
    made.close()


def test_a_client_s_gpu_memory_is_read_and_written(client: Client, regions: Regions) -> None:
    regions.register_cuda("c", client.handle, 0, BYTE_SIZE)
    assert regions.cuda_status("c") == [("c", 0, BYTE_SIZE)]
    expected = np.arange(BYTE_SIZE, dtype=np.uint32).astype(np.uint8)
    for offset, size in ((0, BYTE_SIZE), (1_000, 24)):
        with regions.lease("c", offset, size) as lease:
            assert bytes(lease.read()) == expected[offset : offset + size].tobytes()
    with regions.lease("c", 8, 8) as lease:
        lease.write(b"\xee" * 4)
    regions.unregister_cuda("")
    assert client.memory() == bytes([*range(8), *[0xEE] * 4, *range(12, 64)])


def test_more_than_the_allocation_is_refused_and_the_handle_can_be_opened_again(
    client: Client, regions: Regions
) -> None:
    with pytest.raises(InvalidArgumentError, match="failed to register shared memory region.*invalid args"):
        regions.register_cuda("c", client.handle, 0, 1 << 40)
    regions.register_cuda("c", client.handle, 0, BYTE_SIZE)


@pytest.mark.parametrize(("handle", "device"), [(bytes(64), 0), (b"\xff" * 64, 0), (bytes(64), 10_000)])
def test_what_is_no_handle_of_the_device_is_refused(regions: Regions, handle: bytes, device: int) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        regions.register_cuda("c", handle, device, 64)
    assert error.value.message == "failed to register shared memory region: invalid args"
