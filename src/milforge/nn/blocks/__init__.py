"""Blocks in which the instances of a bag see each other: attention, state spaces."""
