"""Computes: the models, the process they live in, and the client that the server talks to it with."""
