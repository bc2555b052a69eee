"""The face plane as streams use it: who calls says which faces are embedded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from support.repositories import add_model
from support.servers import server
from support.vision_models import (
    EMBEDDER_CONFIG,
    QUARTERS_CONFIG,
    color_embedder,
    quarters_detector,
)

from naiad.core.errors import InternalError, NotFoundError
from naiad.dataplane import DataPlane
from naiad.dataplane.decode_pool import DecodePool
from naiad.dataplane.faces import EncodedImage, FacePlane, Finder, ModelChoice
from naiad.vision.images import ImageLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from naiad.vision.detections import Detections

PICTURE = EncodedImage(cv2.imencode(".png", np.full((200, 200, 3), 50, np.uint8))[1].tobytes())


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[FacePlane]:
    add_model(tmp_path, "quarters", quarters_detector(), QUARTERS_CONFIG)
    add_model(tmp_path, "embedder", color_embedder(), EMBEDDER_CONFIG)
    pool = DecodePool(1, max_pending=4)
    try:
        async with server(tmp_path, allow_grpc=False) as running:
            yield FacePlane(DataPlane(running.manager), pool, ImageLimits(10**6, 10**6))
    finally:
        pool.close()


async def test_only_chosen_faces_are_embedded_in_the_order_that_was_chosen(plane: FacePlane) -> None:
    seen: list[Detections] = []

    def last_and_first(found: Detections) -> list[int]:
        seen.append(found)
        return [3, 0]

    answer = await plane.analyze(PICTURE, Finder(), ModelChoice(), choose=last_and_first)
    assert answer.rows.tolist() == [3, 0]
    assert answer.embeddings.tolist() == [[50, 50, 50]] * 2
    assert len(answer.detections) == 4
    assert seen == [answer.detections]
    assert answer.embedder_times is not None
    assert answer.embedder_times.batch_size == 2


async def test_the_choice_may_wait_for_its_turn(plane: FacePlane) -> None:
    """As frames of a stream do, of which several are detected at once and chosen from in their order."""
    turn = asyncio.Event()

    async def when_it_is_its_turn(found: Detections) -> list[int]:
        await turn.wait()
        return [len(found) - 1]

    late = asyncio.create_task(plane.analyze(PICTURE, Finder(), ModelChoice(), choose=when_it_is_its_turn))
    await plane.analyze(PICTURE, Finder(), ModelChoice())
    assert not late.done()
    turn.set()
    assert (await late).rows.tolist() == [3]


async def test_nothing_chosen_is_nothing_embedded(plane: FacePlane) -> None:
    answer = await plane.analyze(PICTURE, Finder(), ModelChoice(), choose=lambda _: [])
    assert (len(answer.rows), len(answer.embeddings), answer.embedder_times) == (0, 0, None)


async def test_a_face_that_was_not_found_cannot_be_chosen(plane: FacePlane) -> None:
    with pytest.raises(InternalError, match=r"faces \[4\] .* 4 were found"):
        await plane.analyze(PICTURE, Finder(), ModelChoice(), choose=lambda _: [4])
    with pytest.raises(InternalError, match=r"faces \[-1\] .* 4 were found"):
        await plane.analyze(PICTURE, Finder(), ModelChoice(), choose=lambda _: [-1])


async def test_a_model_that_is_not_there_is_told_before_anything_is_decoded(plane: FacePlane) -> None:
    with pytest.raises(NotFoundError, match="'nobody' is not found"):
        await plane.analyze(EncodedImage(b"no picture"), Finder(), ModelChoice("nobody"))


async def test_a_face_that_cannot_be_aligned_costs_the_others_nothing(tmp_path: Path) -> None:
    """Its landmarks all lie in one place: it is found, and has no vector."""
    add_model(tmp_path, "quarters", quarters_detector(flat=1), QUARTERS_CONFIG)
    add_model(tmp_path, "embedder", color_embedder(), EMBEDDER_CONFIG)
    pool = DecodePool(1, max_pending=4)
    try:
        async with server(tmp_path, allow_grpc=False) as running:
            plane = FacePlane(DataPlane(running.manager), pool, ImageLimits(10**6, 10**6))
            answer = await plane.analyze(PICTURE, Finder(), ModelChoice())
            nothing = await plane.analyze(PICTURE, Finder(), ModelChoice(), choose=lambda _: [1])
            embedded = await plane.embed_found(ModelChoice(), PICTURE, Finder())
    finally:
        pool.close()
    assert len(answer.detections) == 4
    assert answer.rows.tolist() == [0, 2, 3]
    assert [vector is None for vector in answer.vectors_of(range(4))] == [False, True, False, False]
    assert (nothing.rows.tolist(), nothing.embedder_times) == ([], None)
    assert embedded.found is not None
    assert len(embedded.found.detections) == len(embedded.embeddings) == 3
