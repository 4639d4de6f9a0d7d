"""The data of a run as a trainer takes them: parts, shapes, standardising, loaders."""
