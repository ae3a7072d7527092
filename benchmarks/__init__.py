"""Measured claims: what runs cost (`python -m benchmarks`), and how true `local_azure` is (`benchmarks.live_check`)."""
