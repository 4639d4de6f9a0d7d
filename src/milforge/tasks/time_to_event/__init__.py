"""Tasks whose labels are times until an event, which may be censored."""
