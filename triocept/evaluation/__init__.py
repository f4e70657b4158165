"""Evaluation of agents: tasks, scorers, and tables of their scores.

* `_types`: tasks, scores and samples, and how a store keeps them.
"""
