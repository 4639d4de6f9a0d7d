"""The keys of a config: whether they exist, whether their values fit, what they mean."""
