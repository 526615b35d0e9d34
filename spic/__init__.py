"""spic: split a network in two, send the feature between the halves in as few bits as possible."""

__version__ = "0.1.0"
