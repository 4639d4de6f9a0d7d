"""From a data set to batches: which bags make one, and how they are read."""
