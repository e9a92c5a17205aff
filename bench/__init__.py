"""Loads and figures: `python -m bench throughput`. What is measured here is never asserted in a test."""
