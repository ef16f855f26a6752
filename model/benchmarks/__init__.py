"""Measuring masks against ground truth: dataset readers and metrics, apart from the method."""
