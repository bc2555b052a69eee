"""The `naiad.…` parameters that the runtime reads, beside those of a vision model. Pure."""

from __future__ import annotations

BATCH_BUCKETS = "naiad.batch_buckets"
GPU_LANES = "naiad.gpu_lanes"
CUDA_GRAPHS = "naiad.cuda_graphs"
CUDA_SHAPES = "naiad.cuda_shapes"
TENSORRT_SHAPES = "naiad.tensorrt_shapes"
TENSORRT_BUILD = "naiad.tensorrt_build"

RUNTIME_KEYS = (BATCH_BUCKETS, GPU_LANES, CUDA_GRAPHS, CUDA_SHAPES, TENSORRT_SHAPES, TENSORRT_BUILD)
"""A model needs no `naiad.task` for them."""
