"""What each pair of dialects loses: canonical content through every pair and back, and the page that says it.

    feature.py    what a feature is, and what has become of it
    requests.py   what agents ask
    history.py    what the conversations of agents hold
    answers.py    what providers answer, whole and streamed
    walk.py       through a pair and back
    page.py       `table.tsv`, which a test compares, and `docs/reference/translation.md`, which is made of it

`python -m tests.dialects.pairs` writes both anew. Look at the difference: each line of it is a change of behaviour.
"""

__all__: list[str] = []
