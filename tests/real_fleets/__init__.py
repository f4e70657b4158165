"""Fleets on a Ray cluster of two nodes, on this machine: `nox -s fleet`. What they promise of every engine is in
`tests/fleets`, and runs there on Ray, too."""
