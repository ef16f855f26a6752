"""The commands of `python -m model`, one module each; `add` describes its flags and `run` does it."""
