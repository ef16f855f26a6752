"""Jobs and the queues that carry them: ids, states, turns between projects, what is given back and taken back."""
