"""The demo: real models built from code and installed weights, a public-domain photo, a video made of it."""
