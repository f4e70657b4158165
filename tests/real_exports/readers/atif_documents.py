"""The documents of a folder, as the package atif has them: read, and said again."""

import json
import sys
from pathlib import Path

from atif import Trajectory

read = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    read[path.name] = Trajectory.model_validate_json(path.read_bytes()).to_json_dict()
print(json.dumps(read))
