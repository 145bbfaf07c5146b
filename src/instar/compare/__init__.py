"""Comparisons beside the DAG: what is compared is asked once, and what is timed belongs to a machine."""
