"""Models that other servers run: sessions whose `run` is a ModelInfer call to a Triton."""
