"""Statistics of the results of repeated runs."""
