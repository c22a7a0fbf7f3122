"""Drives: feeds a session what arrives and performs what it decides."""
