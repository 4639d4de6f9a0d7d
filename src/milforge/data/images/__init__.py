"""Images that are too large to be looked at whole."""
