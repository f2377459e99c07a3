"""The typed configuration, its composition by Hydra, and how a mistake in it is answered."""
