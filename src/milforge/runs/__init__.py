"""The folder of a run: its checkpoints, its lock, its summary, and how it goes on."""
