"""Rows, as `datasets` and pandas have them, from Parquet or from JSON lines."""

import json
import sys
from pathlib import Path

import pandas
from datasets import load_dataset

path = Path(sys.argv[1])
kind = "parquet" if path.suffix == ".parquet" else "json"
rows = list(load_dataset(kind, data_files=str(path), split="train", cache_dir=str(path.parent / "cache")))
frame = pandas.read_parquet(path) if kind == "parquet" else pandas.read_json(path, lines=True)
print(json.dumps({"rows": rows, "columns": list(frame.columns), "count": len(frame)}))
