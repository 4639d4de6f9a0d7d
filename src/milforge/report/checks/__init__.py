"""Checks of runs: what a reviewer looks for, and what a model must not use."""
