"""`python -m backend doctor`: each link of the chain, from the settings to one task's image. It changes nothing."""
