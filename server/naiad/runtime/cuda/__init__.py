"""Models on NVIDIA GPUs: fixed buffers, lanes that overlap copies with runs, CUDA graphs."""
