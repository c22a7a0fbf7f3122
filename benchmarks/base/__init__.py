"""What all suites share: a server as a process, a session as its client has it, what is played, tables."""
