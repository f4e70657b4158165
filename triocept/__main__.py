"""`python -m triocept` runs the command `triocept`."""

from ._cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
