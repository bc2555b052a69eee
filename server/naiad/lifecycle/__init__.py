"""Model versions from folder to service and back: states, handles, the manager, the choice of a version."""
