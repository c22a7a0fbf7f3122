"""Cuts, kills, hostile peers, and whatever else goes wrong."""
