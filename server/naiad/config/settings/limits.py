"""Settings of what the server may use and how much it takes on."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from naiad.config.ragged_config import MAX_RAGGED_BATCH_BYTES
from naiad.config.settings.kinds import Flag, Positive, Seconds, SettingsGroup

MAX_FACES = 1_000
MAX_HELD_BYTES = 4 * 2**30


class LimitSettings(SettingsGroup):
    """Threads and bounds."""

    TITLE: ClassVar[str] = "Threads and limits"

    cpu_threads: Positive | None = Field(
        None, description="CPU threads to use in all; by default what the cgroup's quota and affinity give."
    )
    decode_threads: Positive | None = Field(
        None, description="Threads that decode and resize images; by default the CPU threads."
    )
    measure_layout: Flag = Field(
        True,
        description="Measure at load how many instances of a model are fastest on the CPU threads, where its "
        "config says neither instance_group nor intra_op_thread_count; false: one a thread, up to four.",
    )
    measure_layout_secs: Seconds = Field(
        1.0, description="About how long that measurement may take for one model, in seconds."
    )
    max_queue_size: Positive = Field(
        1_000, description="Requests that may wait for one model version before more are refused."
    )
    admission_control: Flag = Field(
        True,
        description="Refuse a request at once that could not be answered by its deadline, or would wait "
        "beyond its queue timeout; false lets it wait until then, as Triton does.",
    )
    max_ragged_batch_bytes: Positive = Field(
        MAX_RAGGED_BATCH_BYTES,
        description="Bytes of ragged inputs (allow_ragged_batch) that one batch may hold; a request with "
        "more runs alone.",
    )
    max_image_bytes: Positive = Field(32 * 2**20, description="The largest encoded or raw image, in bytes.")
    max_image_pixels: Positive = Field(64 * 10**6, description="The most pixels an image may have.")
    max_pending_images: Positive = Field(
        256, description="Images that may wait for a decode thread before more are refused."
    )
    max_held_image_bytes: Positive = Field(
        MAX_HELD_BYTES,
        description="Bytes of decoded pictures that may be held at once while their faces are found and "
        "embedded, before more are refused.",
    )
    max_embed_faces: Positive = Field(
        MAX_FACES, description="Faces or crops that one call may ask embeddings for."
    )
    stream_max_in_flight: Positive = Field(
        128,
        description="Messages of one stream that are worked on at once; then the stream is read no further.",
    )


class SharedMemorySettings(SettingsGroup):
    """Shared memory."""

    TITLE: ClassVar[str] = "Shared memory"

    allow_client_shm: Flag = Field(
        False, description="Let clients register shared memory for inputs and outputs."
    )
    max_shared_memory_regions: Positive = Field(
        1_000, description="Regions that may be registered before more are refused."
    )
