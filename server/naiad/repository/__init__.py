"""What lies on disk: model repositories, version folders, and which of them are wanted."""
