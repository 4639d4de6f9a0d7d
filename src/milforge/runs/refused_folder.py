"""The error of a run's folder that is another's."""


class RefusedFolder(ValueError):
    """A folder that holds another run, or that another process writes to: nothing is done there."""
