"""What the loss does: of a step, of a whole part, and where it is not finite."""
