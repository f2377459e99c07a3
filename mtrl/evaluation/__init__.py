"""How success is measured: the protocol, saved policies, and the command that evaluates them."""
