"""What annotators changed, what it amounts to, and what is learnt from it without training."""
