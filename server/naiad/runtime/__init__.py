"""Engines behind one narrow waist, the `Session` protocol."""
