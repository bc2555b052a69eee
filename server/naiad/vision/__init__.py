"""Bytes to pixels, pixels to input tensors, raw outputs to faces. Pure: numpy, OpenCV, no state."""
