"""Measures over many runs: pooled over folds, on other cohorts, with what was chosen."""
