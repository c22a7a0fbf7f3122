"""What this machine's GPU, or else its CPU, takes for each call, and how many sessions it carries."""
