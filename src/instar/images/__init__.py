"""The stage ``images``: photographs fetched, checked and stored as they came."""
