"""Pairs of photographs that a person should compare, as a page whose decisions the stage dataset reads."""
