"""Barque measured against what a user would pick instead: see docs/benchmarks.md."""
