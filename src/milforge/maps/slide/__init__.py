"""The slide behind a map: where it is, and small pictures of it."""
