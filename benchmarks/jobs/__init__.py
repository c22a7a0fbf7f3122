"""Recordings as jobs: workers that die, and a job beside a straight script."""
