"""Whole projects: `prelabel`, its progress, samples, and old predictions that make room."""
