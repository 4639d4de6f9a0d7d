"""Formats of large images: arrays, TIFF, slides of the scanners' makers."""
