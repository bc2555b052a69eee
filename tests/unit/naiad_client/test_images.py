"""What a caller may hand in as a picture, and what is refused with which words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from naiad_client.images import Pictures, RawFrame, write_image
from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path


def written(image: Any, color: Any = None) -> pb.Image:
    """The picture as it would travel."""
    message = pb.Image()
    write_image(image, color, message)
    return message


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_travel_as_an_encoded_file(kind: type) -> None:
    assert written(kind(b"\xff\xd8")) == pb.Image(encoded=b"\xff\xd8")


@pytest.mark.parametrize("as_text", [True, False])
def test_a_path_is_read(tmp_path: Path, as_text: bool) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8")
    assert written(str(path) if as_text else path).encoded == b"\xff\xd8"


def test_a_missing_file_says_which() -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg"):
        written("nowhere.jpg")


@pytest.mark.parametrize(("color", "wanted"), [("bgr", pb.PIXEL_FORMAT_BGR), ("rgb", pb.PIXEL_FORMAT_RGB)])
def test_a_color_array_travels_raw(color: str, wanted: int) -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    raw = written(pixels, color).raw
    assert (raw.height, raw.width, raw.stride, raw.format) == (2, 3, 0, wanted)
    assert raw.data == bytes(range(18))


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 1)])
def test_a_grey_array_needs_no_color(shape: tuple[int, ...]) -> None:
    raw = written(np.full(shape, 7, np.uint8)).raw
    assert (raw.height, raw.width, raw.format, raw.data) == (2, 5, pb.PIXEL_FORMAT_GRAY, b"\x07" * 10)


@pytest.mark.parametrize(
    "view",
    [
        np.s_[1:5, 2:7],
        np.s_[::-1],
        np.s_[:, ::-1],
        np.s_[..., ::-1],
        np.s_[::2, ::3],
    ],
    ids=["crop", "upside down", "mirrored", "channels swapped", "subsampled"],
)
def test_any_view_travels_as_its_own_pixels(view: Any) -> None:
    """Gaps, reversed axes and foreign pixels stay behind: the data are exactly the view's, row by row."""
    whole = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    pixels = whole[view]
    raw = written(pixels, "rgb").raw
    received = np.frombuffer(raw.data, np.uint8).reshape(raw.height, raw.width, 3)
    np.testing.assert_array_equal(received, pixels)


def test_a_color_array_without_an_order_is_refused() -> None:
    """Nothing would fail on swapped channels, scores would just be a little worse."""
    with pytest.raises(ValueError, match=r"color='bgr' \(OpenCV\) or color='rgb'"):
        written(np.zeros((2, 2, 3), np.uint8))


@pytest.mark.parametrize(
    ("image", "color", "kind", "words"),
    [
        (np.zeros((2, 2, 3), np.float32), "bgr", TypeError, "dtype float32"),
        (np.zeros((2, 2, 4), np.uint8), "bgr", ValueError, r"shape \[2, 2, 4\]"),
        (np.zeros((1, 2, 2, 3), np.uint8), "bgr", ValueError, r"shape \[1, 2, 2, 3\]"),
        (np.zeros(4, np.uint8), None, ValueError, r"shape \[4\]"),
        (np.zeros((0, 2, 3), np.uint8), "bgr", ValueError, r"shape \[0, 2, 3\] has no pixels"),
        (np.zeros((2, 2, 3), np.uint8), "yuv", ValueError, "color is 'yuv'"),
        (b"", None, ValueError, "0 bytes"),
        (None, None, TypeError, "image is a NoneType"),
        ([[1, 2]], None, TypeError, "image is a list"),
    ],
)
def test_what_cannot_be_a_picture_is_refused(
    image: Any, color: Any, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        written(image, color)


@pytest.mark.parametrize(("kind", "wanted"), [("nv12", pb.PIXEL_FORMAT_NV12), ("i420", pb.PIXEL_FORMAT_I420)])
def test_video_frames_travel_as_they_are(kind: Any, wanted: int) -> None:
    """One array of all planes, as OpenCV gives it, or bytes with a stride."""
    planes = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4)
    raw = written(RawFrame.planar(planes, kind)).raw
    assert (raw.width, raw.height, raw.stride, raw.format) == (4, 4, 0, wanted)
    assert raw.data == planes.tobytes()
    padded = written(RawFrame(memoryview(bytes(48)), kind, 4, 4, stride=8)).raw
    assert (padded.stride, len(padded.data)) == (8, 48)


def test_a_view_of_a_larger_frame_loses_its_gaps() -> None:
    planes = np.zeros((6, 9), np.uint8)[:, :4]
    assert len(written(RawFrame.planar(planes, "nv12")).raw.data) == 24


@pytest.mark.parametrize("shape", [(6,), (5, 4), (6, 3), (6, 4, 1), (0, 4)])
def test_an_array_that_is_no_video_frame(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="is no nv12 frame"):
        RawFrame.planar(np.zeros(shape, np.uint8), "nv12")


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (RawFrame(b"", "yuyv", 4, 4), "format is 'yuyv'"),  # type: ignore[arg-type]  # what is tested
        (RawFrame(b"", "nv12", 3, 4), "both sides must be even"),
        (RawFrame(b"", "bgr", 0, 4), "has no pixels"),
    ],
)
def test_a_raw_frame_that_cannot_be(frame: RawFrame, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        written(frame)


@pytest.mark.parametrize("color", ["bgr", "rgb"])
def test_arrays_are_encoded_where_that_is_asked_for(color: Any) -> None:
    """The colour stays, whatever the order of the channels; files are sent as they are."""
    cv2 = pytest.importorskip("cv2")
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:] = (200, 100, 20) if color == "bgr" else (20, 100, 200)
    message = pb.Image()
    pictures = Pictures(color, "jpeg", 95)
    pictures.write(pixels, message)
    decoded = cv2.imdecode(np.frombuffer(message.encoded, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_allclose(decoded[5, 5], (200, 100, 20), atol=4)
    pictures.write(b"file", message)
    assert message.encoded == b"file"


def test_a_useless_array_is_not_encoded_either() -> None:
    with pytest.raises(TypeError, match="float64"):
        Pictures("bgr", "jpeg").write(np.zeros((2, 2, 3)), pb.Image())  # type: ignore[arg-type]  # what is tested
