"""Server settings, model configs and everything that validates them."""
