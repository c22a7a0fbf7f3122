"""Listens: HTTP and WebSocket."""
