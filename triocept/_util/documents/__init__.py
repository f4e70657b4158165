"""Read JSON and YAML files that people write. Each value is read together with its line number.

* `node`: a value and its place. `yaml_text`, `json_text`: readers of YAML and JSON.
"""

from .json_text import read_json
from .node import Node, decoded, node_of
from .yaml_text import read_yaml

__all__ = ["Node", "decoded", "node_of", "read_json", "read_yaml"]
