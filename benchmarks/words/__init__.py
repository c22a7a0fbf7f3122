"""What is written down, live and in the end, of all kinds of speech and of none."""
