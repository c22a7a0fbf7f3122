"""Many at once: viewers, other programs' clients, and the page itself."""
