"""Tasks whose labels are classes: two, several, in order, or any of several."""
