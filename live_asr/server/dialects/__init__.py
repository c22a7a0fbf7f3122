"""Foreign protocols: each a translator between its clients and our sessions, with nothing else below."""
