"""Start from the weights of another run, mapped from its tasks to this run's by name."""
