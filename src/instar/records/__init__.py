"""From public records to one row per photograph."""
