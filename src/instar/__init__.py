"""instar: from public biodiversity photographs to a detector, clean crops and a classifier."""

__version__ = "0.1.0"
