"""The labeling config: what a project asks for, read from its XML and written back."""
