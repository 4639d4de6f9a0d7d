"""Figures of where the attention lies: in bags, on maps, on large images, over epochs."""
