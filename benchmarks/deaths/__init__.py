"""What becomes of a job whose worker is killed in the middle of it, with each peer: see docs/comparison.md."""
