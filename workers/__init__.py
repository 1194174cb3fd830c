"""Run jobs."""
