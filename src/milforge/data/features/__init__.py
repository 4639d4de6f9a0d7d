"""Bags of features on disk."""
