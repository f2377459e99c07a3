"""Which environment copy plays which task, and when that changes."""
