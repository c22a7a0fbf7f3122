"""Latency, words and cost of live sessions, in one table; and beside an earlier tree."""
