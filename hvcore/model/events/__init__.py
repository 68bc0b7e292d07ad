"""Events as values: what happened, and what follows from what is seen. Pure."""
