"""A short soak of streams; the long one is `python -m fuzz.streams`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fuzz.streams import soak

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["naiad", "grpcio"])
async def test_no_frame_is_lost_whatever_clients_do(tmp_path: Path, transport: str) -> None:
    account = await soak(tmp_path, 2_000, 7, grpc_transport=transport)
    assert account.faults == []
    assert account.told["result"] > 0
    assert account.told["dropped"] > 0
    assert account.streams["left"] > 0
