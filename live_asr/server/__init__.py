"""Listens: HTTP, WebSocket and event streams, who may do what, and the page.

May import everything but the commands. Begin with `app`, then `stream`, one client's socket.
"""
