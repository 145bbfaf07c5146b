"""A study's models in one folder, with all that whoever gets them has to know."""
