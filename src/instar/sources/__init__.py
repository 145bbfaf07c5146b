"""Fetching what the stage ``records`` reads: commands that need the network, outside the DAG."""
