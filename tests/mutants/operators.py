"""The changes that are made: some of cosmic-ray's, and three that it has not.

Of cosmic-ray's many replacements those are taken that a person may have got wrong: the negation and the neighbour of a
comparison, the inverse of an arithmetic operator. `+` as `**` is found by any test, and would be most of a sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import parso
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.operators.provider import OperatorProvider

Node: TypeAlias = Any
"""One of parso's; the package has no types of its own that could be held against."""
Span: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
"""Where a node begins and ends, each as (line from 1, column from 0)."""


class ArgumentLeftOut(Operator):  # type: ignore[misc]
    """A keyword argument is not given: `f(a, b=1)` as `f(a)`."""

    def mutation_positions(self, node: Node) -> Iterator[Span]:
        """Where the keyword arguments of a call stand."""
        for argument in _keywords(node):
            yield argument.start_pos, argument.end_pos

    def mutate(self, node: Node, index: int) -> Node:
        """The call without one."""
        argument = list(_keywords(node))[index]
        place = node.children.index(argument)
        behind = node.children[place + 1 : place + 2]
        comma = [each for each in behind if getattr(each, "value", None) == ","]
        node.children = [each for each in node.children if each is not argument and each not in comma]
        return node

    @classmethod
    def examples(cls) -> Iterable[Example]:
        return (
            Example("f(a, b=1)", "f(a,)"),
            Example("f(b=1)", "f()"),
            Example("f(b=1, c=2)", "f(b=1,)", occurrence=1),
        )


def _keywords(node: Node) -> Iterator[Node]:
    if node.type not in ("arglist", "trailer") or node.parent is None or node.parent.type == "classdef":
        return
    for child in node.children:
        if child.type == "argument" and getattr(child.children[1], "value", None) == "=":
            yield child


class StatementLeftOut(Operator):  # type: ignore[misc]
    """A call, a `raise`, or what is written to an attribute or an item is left out: `pass` stands there."""

    def mutation_positions(self, node: Node) -> Iterator[Span]:
        """Where such a statement stands."""
        if node.type == "simple_stmt" and _does_something(node.children[0]):
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node: Node, index: int) -> Node:
        """`pass`, in the same column."""
        node.children[0] = _leaf("pass", node.children[0])
        return node

    @classmethod
    def examples(cls) -> Iterable[Example]:
        return (
            Example("def f():\n    g()\n", "def f():\n    pass\n"),
            Example("self.a = 1\n", "pass\n"),
            Example("raise ValueError(1)\n", "pass\n"),
        )


def _does_something(node: Node) -> bool:
    if node.type == "expr_stmt":
        target, equals = node.children[0], getattr(node.children[1], "value", "")
        return target.type in ("atom_expr", "power") or (equals.endswith("=") and equals != "=")
    return node.type in ("atom_expr", "power", "raise_stmt")


class ReturnNone(Operator):  # type: ignore[misc]
    """A function returns None in place of what it says."""

    def mutation_positions(self, node: Node) -> Iterator[Span]:
        """Where another value is returned."""
        if node.type == "return_stmt" and len(node.children) > 1:
            value = node.children[1]
            if getattr(value, "value", None) != "None":
                yield value.start_pos, value.end_pos

    def mutate(self, node: Node, index: int) -> Node:
        """`return None`."""
        node.children[1] = _leaf("None", node.children[1])
        return node

    @classmethod
    def examples(cls) -> Iterable[Example]:
        return (Example("def f(): return 1", "def f(): return None"),)


def _leaf(value: str, instead_of: Node) -> Node:
    first = instead_of.get_first_leaf() if hasattr(instead_of, "children") else instead_of
    return parso.python.tree.Keyword(value, first.start_pos, prefix=first.prefix)


_TAKEN = (
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ExceptionReplacer", "NumberReplacer"),
    *("RemoveDecorator", "ZeroIterationForLoop", "ReplaceUnaryOperator_Delete_Not"),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is",
      "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_Add", "Div_Mul", "FloorDiv_Mul",
      "Mod_Add", "BitOr_BitAnd")),
    "ReplaceBinaryOperator_BitAnd_BitOr",
)  # fmt: skip


def _all() -> Iterator[tuple[str, Operator]]:
    known = OperatorProvider()
    for name in _TAKEN:
        yield name, known[name]()
    for own in (ArgumentLeftOut, StatementLeftOut, ReturnNone):
        yield own.__name__, own()


OPERATORS: dict[str, Operator] = dict(_all())
