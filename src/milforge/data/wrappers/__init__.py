"""Data sets that are made of another: with labels, with graphs, a bag per patient."""
