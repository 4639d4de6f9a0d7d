"""Processes: signals, queues, those that are lost, and what they tell each other."""
