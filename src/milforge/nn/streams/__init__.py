"""Modules for bags with several streams of features."""
