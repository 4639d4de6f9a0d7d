"""Losses, estimates and scores of times that may be censored."""
