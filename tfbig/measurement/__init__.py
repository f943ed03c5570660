"""Measurement: what a file delivers (quality, bytes, latency), what is inside it, and why."""
