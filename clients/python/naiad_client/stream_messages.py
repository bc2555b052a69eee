"""How each kind of stream speaks: its opening, a frame, what the options mean on the wire."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic

from naiad_client.messages import detect_options, landmarks_messages, version_text, version_texts
from naiad_client.options import ContractOptions, DetectOptions, EmbedOptions, StreamOptions
from naiad_client.parsing import parse_analyze, parse_detect, parse_embed, parse_frame
from naiad_client.results import FrameResult, ResultT
from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    from naiad_client.images import ImageLike, Pictures
    from naiad_client.messages import Messages
    from naiad_client.options import FaceLike, StreamKind

    ChoiceT = TypeVar("ChoiceT")

_POLICIES = {"every": pb.FRAME_POLICY_EVERY_FRAME, "latest": pb.FRAME_POLICY_LATEST_WINS}
_ORDERS = {"frames": pb.RESULT_ORDER_FRAMES, "ready": pb.RESULT_ORDER_READY}
_EMBED_WHEN = {"every_face": pb.EMBED_WHEN_EVERY_FACE, "once_a_track": pb.EMBED_WHEN_ONCE_A_TRACK}
_TRACKS = frozenset({"tracks", "max_missed"})
_OWN_STREAM = StreamOptions.__annotations__.keys() - {"embed_when"} - _TRACKS
_CONTRACT = ContractOptions.__annotations__.keys() - StreamOptions.__annotations__.keys()
_STREAM = {"timeout", "retries", "color", "encode", "quality"}
_DETECT_KEYS = frozenset(DetectOptions.__annotations__.keys() | _STREAM | _TRACKS | _CONTRACT)
_EMBED_KEYS = frozenset((EmbedOptions.__annotations__.keys() - {"finder"}) | _STREAM | _CONTRACT)
_ANALYZE_KEYS = frozenset(
    EmbedOptions.__annotations__.keys() | _STREAM | _TRACKS | _CONTRACT | {"embed_when"}
)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a stream is held to on this side.

    Attributes:
        contract: whether the server is asked to keep to one, tells credit and drops, and says when it closes.
        latest: of frames that could not be sent, the newest is enough.
        in_order: results come in the order of the frames.
        max_in_flight: frames taken whose answers have not come; None leaves it to the server's credit.
        max_untaken: frames taken whose results have not been taken out.
    """

    contract: bool
    latest: bool
    in_order: bool
    max_in_flight: int | None
    max_untaken: int


@dataclass(frozen=True, slots=True)
class StreamMessages(Generic[ResultT]):
    """How one stream speaks: the stub's method, its first message, frames as messages, and back."""

    method: str
    request_type: Any
    options: Any
    pictures: Pictures
    takes_faces: bool
    parse_result: Callable[[Any], ResultT]

    def opening(self, first_track_id: int) -> Any:
        """The first message; a stream that goes on for another numbers its tracks from there, else 0."""
        request = self.request_type(options=self.options)
        if first_track_id and not self.takes_faces and request.options.HasField("tracks"):
            request.options.tracks.first_track_id = first_track_id
        return request

    def frame(self, capture_time_us: int, image: ImageLike, faces: FaceLike) -> Any:
        """A frame's message, without its id; errors as in `write_image`, and ValueError for faces."""
        request = self.request_type()
        if self.takes_faces:
            request.frame.faces.extend(landmarks_messages(faces))
        elif faces is not None:
            raise ValueError(f"{self.method} takes no faces: it finds them")
        request.frame.capture_time_us = capture_time_us
        self.pictures.write(image, request.frame.image)
        return request

    def parse(self, response: Any) -> FrameResult[ResultT]:
        """The result or error in a response."""
        return parse_frame(response, self.parse_result)


def stream_messages(
    messages: Messages, kind: StreamKind, options: ContractOptions, contract: bool
) -> StreamMessages[Any]:
    """The messages of a stream of a kind.

    Raises:
        ValueError: an option is not for that kind, or has a value that is unknown or out of bounds.
    """
    if kind not in _BUILDERS:
        raise ValueError(f"kind is {kind!r}: one of {', '.join(_BUILDERS)} is wanted")
    build, allowed = _BUILDERS[kind]
    wrong = sorted(key for key, value in options.items() if value is not None and key not in allowed)
    if wrong:
        raise ValueError(f"a stream of {kind!r} has no option {', '.join(wrong)}")
    return build(messages, options, _contract(options) if contract else None)


def _detect(
    messages: Messages, options: ContractOptions, contract: pb.StreamContract | None
) -> StreamMessages[Any]:
    opening = pb.StreamDetectOptions(
        model_name=messages.name(options.get("model"), messages.detector),
        model_version=version_text(options.get("version")),
        options=detect_options(options),
        contract=contract,
        tracks=_tracks(options),
    )
    return StreamMessages(
        "StreamDetect", pb.StreamDetectRequest, opening, _pictures(messages, options), False, parse_detect
    )


def _embed(
    messages: Messages, options: ContractOptions, contract: pb.StreamContract | None
) -> StreamMessages[Any]:
    opening = pb.StreamEmbedOptions(
        model_name=messages.name(options.get("model"), messages.embedder),
        model_version=version_text(options.get("version")),
        normalize=options.get("normalize"),
        contract=contract,
        also_versions=version_texts(options.get("also_versions")),
    )
    return StreamMessages(
        "StreamEmbed", pb.StreamEmbedRequest, opening, _pictures(messages, options), True, parse_embed
    )


def _analyze(
    messages: Messages, options: ContractOptions, contract: pb.StreamContract | None
) -> StreamMessages[Any]:
    when = options.get("embed_when")
    if when == "once_a_track" and not options.get("tracks"):
        raise ValueError("embed_when='once_a_track' needs tracks=True")
    opening = pb.StreamAnalyzeOptions(
        finder=messages.finder(options.get("finder")),
        embedder_name=messages.name(options.get("model"), messages.embedder),
        embedder_version=version_text(options.get("version")),
        normalize=options.get("normalize"),
        contract=contract,
        tracks=_tracks(options),
        embed_when=_choice("embed_when", when or "every_face", _EMBED_WHEN),
        also_versions=version_texts(options.get("also_versions")),
    )
    return StreamMessages(
        "StreamAnalyze", pb.StreamAnalyzeRequest, opening, _pictures(messages, options), False, parse_analyze
    )


_BUILDERS = {
    "detect": (_detect, _DETECT_KEYS),
    "embed": (_embed, _EMBED_KEYS),
    "analyze": (_analyze, _ANALYZE_KEYS),
}


def _tracks(options: ContractOptions) -> pb.TrackOptions | None:
    if not options.get("tracks"):
        if options.get("max_missed") is not None:
            raise ValueError("max_missed needs tracks=True")
        return None
    return pb.TrackOptions(max_missed=_positive("max_missed", options.get("max_missed")))


def _contract(options: ContractOptions) -> pb.StreamContract:
    order = options.get("order", "frames")
    if order == "ready" and options.get("tracks"):
        raise ValueError("order='ready' is not for streams with tracks, which need the order of the frames")
    return pb.StreamContract(
        policy=_choice("policy", options.get("policy", "every"), _POLICIES),
        order=_choice("order", order, _ORDERS),
        max_in_flight=_positive("max_in_flight", options.get("max_in_flight")),
        max_age_ms=_positive("max_age_ms", options.get("max_age_ms")),
        frame_deadline_ms=_positive("frame_deadline_ms", options.get("frame_deadline_ms")),
    )


def _choice(name: str, value: str, choices: Mapping[str, ChoiceT]) -> ChoiceT:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: one of {', '.join(choices)} is wanted")
    return choices[value]


def _positive(name: str, value: int | None) -> int:
    if value is not None and value < 1:
        raise ValueError(f"{name} is {value}: at least 1 is wanted")
    return value or 0


def _pictures(messages: Messages, options: StreamOptions) -> Pictures:
    told: dict[str, Any] = {key: options.get(key) for key in ("color", "encode", "quality")}
    return replace(messages.pictures, **{key: value for key, value in told.items() if value is not None})
