"""Requests that belong to sequences: slots, control tensors, states, and the two ways to batch them."""
