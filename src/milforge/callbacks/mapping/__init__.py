"""Maps of the bags that a run predicts, and how faithful they are."""
