"""`python -m tests.dialects.pairs`: compute the table anew, and write it and the page."""

from .page import PAGE, TABLE, compute, write

if __name__ == "__main__":
    write(compute())
    print(f"written: {TABLE}\nwritten: {PAGE}")
