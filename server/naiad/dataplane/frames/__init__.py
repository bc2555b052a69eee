"""Frames of streams before and while they are worked on: what waits, what was dropped, whose turn it is."""
