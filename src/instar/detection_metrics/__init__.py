"""Stage ``detection_metrics``: what the detector is worth on held-out photographs."""
