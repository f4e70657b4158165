"""Read the version of a server's weights from its answers."""

from __future__ import annotations

UNSET = "default"
"""The version that SGLang reports for weights to which no program has given a version."""
_NAMES = ("weight_version", "weight_versions", "policy_version", "model_version")


def versions_in(document: object) -> tuple[str, ...]:
    """Return the versions of the weights that an answer names: several if the weights changed during the answer."""
    if not isinstance(document, dict):
        return ()
    found: object = None
    for place in (document, document.get("meta_info"), document.get("metadata")):
        if isinstance(place, dict):
            found = next((place[name] for name in _NAMES if place.get(name)), found)
    versions = found if isinstance(found, list) else [found]
    return tuple([str(each) for each in versions if each not in (None, UNSET)])
