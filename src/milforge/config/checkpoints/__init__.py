"""The config that a checkpoint carries: where it is, whether it is sound, what it may name."""
