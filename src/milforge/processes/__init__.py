"""Processes: signals, queues, those that are lost, and what they send each other."""
