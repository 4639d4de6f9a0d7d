"""What several commands share: configs and errors, the jobs of a sweep, the terminal."""
