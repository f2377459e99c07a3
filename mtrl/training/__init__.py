"""What happens around the agent's updates: callbacks, metrics, the status of the run, the display."""
