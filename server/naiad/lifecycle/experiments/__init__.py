"""Experiments: which version answers whom, what is learnt about each, and what follows from it."""
