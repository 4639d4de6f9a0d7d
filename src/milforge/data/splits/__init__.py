"""Which bags are trained on, selected by, and reported on."""
