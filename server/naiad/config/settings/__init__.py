"""The groups of settings that make up the server config, one module each."""
