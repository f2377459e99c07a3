"""Start from the weights of another run, mapped from its tasks to this run's by name."""

from mtrl.transfer.forgetting import source_success
from mtrl.transfer.source import Source, read_source
from mtrl.transfer.start import Transfer, freeze, prepare_transfer

__all__ = ["Source", "Transfer", "freeze", "prepare_transfer", "read_source", "source_success"]
