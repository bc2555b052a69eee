"""TensorRT without anybody waiting for it: profiles, the engine cache, and engines built behind traffic."""
