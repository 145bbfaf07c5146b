"""The study ``trays``: bulk samples of insects on trays."""
