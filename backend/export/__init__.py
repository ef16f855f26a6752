"""Annotations or predictions of a project, out of Label Studio and into files that training code reads."""
