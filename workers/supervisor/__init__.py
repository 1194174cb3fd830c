"""Several worker processes on one host, and what looks after them: docs/processes.md."""
