"""Configs: their schema, the check of their keys, and what is said where one is wrong."""
