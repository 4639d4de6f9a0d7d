"""Arrays in files: where their values lie, and how they are read."""
