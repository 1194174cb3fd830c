"""Processes beside the worker's own, for what computes: `pool` is the worker's side, `inside` that of a process."""
