"""The part about masks of metrics/detection_metrics.json, as the stage detection_metrics writes it, by hand."""

from typing import Any

_BEST = {"f1": 0.8, "precision": 0.75, "recall": 0.857143, "true_positives": 6, "false_positives": 2}
_AGREEMENT = {"n": 6, "slope": 0.9, "intercept": 1.5, "r2": 0.98, "bias": -0.5, "mae": 1.5, "mape": 0.125}
_AREAS = {"true_positive_px": 700, "false_positive_px": 200, "false_negative_px": 100}
_SHARES = {"true_positive_share": 0.7, "false_positive_share": 0.2, "false_negative_share": 0.1}
_SIDE = {"animals": 4, "missed": 1, "detections": 4, "wrong": 1, "duplicates": 0}


def mask_metrics() -> dict[str, Any]:
    """Two photographs of test with 7 animals."""
    precisions: dict[str, float | None] = {
        "AP50-95": 0.425,
        "AP50": 0.831,
        "AP75": 0.366,
        "AP_small": 0.2,
        "AP_medium": 0.416,
    }
    precisions |= {"AP_large": None, "AR": 0.5}
    best = {f"{split}_{name}": value for split in ("validation", "test") for name, value in _BEST.items()}
    best |= {f"{split}_false_negatives": 1 for split in ("validation", "test")}
    counts: dict[str, Any] = {split: dict(_AGREEMENT) for split in ("validation", "test")}
    nothing = dict.fromkeys(_AGREEMENT) | {"n": 0}
    counts |= {"specimens_annotated": {**_AGREEMENT, "slope": 0.7}, "specimens_detected_on_test": nothing}
    counts["specimens_and_counts"] = {"annotated": [[50, 40], [90, 80]], "detected_on_test": []}
    difference = {"value": 50.0, "low": -20.0, "high": 130.0}
    return {
        "from_px": {"small": 0, "medium": 144, "large": 1024},
        "validation": precisions,
        "test": precisions,
        "best_f1": {"confidence": 0.35, **best},
        "areas": {split: {**_AREAS, **_SHARES} for split in ("validation", "test")},
        "counts": {"all": counts, "Insecta, Arachnida": counts},
        "seams": {
            "within_px": 10.0,
            "near": dict(_SIDE),
            "elsewhere": dict(_SIDE),
            "difference_per_1000": {"all": dict.fromkeys(("missed", "wrong", "duplicates"), difference)},
            "detections": {},
        },
        "interval_95": {
            "resamples": 100,
            "photographs": 2,
            "groups": 2,
            "AP50-95": [0.35, 0.5],
            "AP50": [0.8, 0.86],
            "AP75": None,
            "test_f1": [0.7, 0.9],
            "test_precision": [0.7, 0.8],
            "test_recall": [0.8, 0.9],
            "count_slope": [0.8, 1.0],
            "count_bias": [-1.0, 0.5],
            "count_mae": [1.0, 2.0],
            "count_mape": [0.1, 0.15],
            "width": {"AP50-95": 0.15},
        },
    }
