"""Whatever bytes come."""
