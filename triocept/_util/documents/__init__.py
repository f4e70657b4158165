"""A document in a file that people write and read: its values, and on which line each of them stands.

* `node`: a value, and where it is. `yaml_text`, `json_text`: a text, read.
"""

from .json_text import read_json
from .node import Node, decoded, node_of
from .yaml_text import read_yaml

__all__ = ["Node", "decoded", "node_of", "read_json", "read_yaml"]
