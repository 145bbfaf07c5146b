"""Shared by all tests: no library may look at the network or at the user's own settings."""

import os

os.environ["YOLO_OFFLINE"] = "true"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["DVC_NO_ANALYTICS"] = "1"
for _name in [name for name in os.environ if name.startswith(("INSTAR_", "SNAKEMAKE_"))]:
    del os.environ[_name]
