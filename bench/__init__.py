"""Measurements: one file a hot path, each `python -m bench NAME`; all of them write docs/reference/benchmarks.md."""
