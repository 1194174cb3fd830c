"""Enqueue jobs and wait for their results."""
