"""Configs: their schema, the check of their keys, and the sentence where one is wrong."""
