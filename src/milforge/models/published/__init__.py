"""Published models, one file each, written from the equations of their papers."""
