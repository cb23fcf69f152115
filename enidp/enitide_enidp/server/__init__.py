"""The agent's socket and its metrics address: a small HTTP/1.1 server, the table of paths, and what each shows."""
