"""Who said it, and the full pass."""
