"""Whether a map can be trusted: how faithful it is, and whether it is that of the run."""
