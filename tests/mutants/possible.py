"""All mutants of a file, and the rules by which places are left out that no test can be expected to guard.

Left out are: what is no code at run time (annotations, type aliases, imports for types alone, `overload`, `final`,
`override`), `__all__`, what a person reads of an object (`__repr__`, `__str__`) and of the log, the keywords of a
class's head, and one more or one less of an amount (a number of ten or more, or with a fraction: limits and patience
are chosen, and a test that knows the last unit of one would only repeat it).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

from .operators import OPERATORS, Span

_READ = frozenset({"__repr__", "__str__"})
_TYPES_ONLY = frozenset({"overload", "final", "override", "runtime_checkable"})
_LOGS = frozenset({"log", "logger", "_log"})
_LEVELS = frozenset({"debug", "info", "warning", "error", "exception"})
_AMOUNT = 10


@dataclass(frozen=True, kw_only=True, order=True)
class Mutant:
    """One change of one file."""

    file: str
    """Where, from the root of the tree on."""
    line: int
    """From 1."""
    operator: str
    """A name of `OPERATORS`."""
    occurrence: int
    """Which place of this operator in the file, from 0, as cosmic-ray counts them."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.operator}:{self.occurrence}"

    @classmethod
    def of(cls, text: str) -> Mutant:
        """Return the mutant of this name."""
        file, line, operator, occurrence = text.rsplit(":", 3)
        if operator not in OPERATORS:
            raise ValueError(f"{text!r}: there is no operator {operator!r}")
        return cls(file=file, line=int(line), operator=operator, occurrence=int(occurrence))


def mutants_of(file: str, source: str) -> list[Mutant]:
    """All of them, in the order of the file's lines."""
    left_out = list(_left_out(source))
    nodes = list(ast_nodes(get_ast(source)))
    found = []
    for name, operator in OPERATORS.items():
        spans = (span for node in nodes for span in operator.mutation_positions(node))
        for occurrence, span in enumerate(spans):
            if any(_within(span, place) for place in left_out) or _is_amount(name, source, span):
                continue
            found.append(Mutant(file=file, line=span[0][0], operator=name, occurrence=occurrence))
    return sorted(found)


def mutated(source: str, mutant: Mutant) -> str:
    """Return the file with the change; raise ValueError if it has no such place any more."""
    changed: str | None = mutate_code(source, OPERATORS[mutant.operator], mutant.occurrence)
    if changed is None:
        raise ValueError(f"{mutant}: there is no such place in the file")
    return changed


def says_another(source: str, changed: str) -> bool:
    """Whether the change is a program, and not the same one: parso reads on behind syntax that it does not know."""
    try:
        return ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source))
    except SyntaxError:
        return False


def _within(span: Span, place: Span) -> bool:
    return place[0] <= span[0] and span[1] <= place[1]


def _is_amount(operator: str, source: str, span: Span) -> bool:
    if operator != "NumberReplacer":
        return False
    (line, begin), (_, end) = span
    number = ast.literal_eval(source.splitlines()[line - 1][begin:end])
    return isinstance(number, float) or abs(number) >= _AMOUNT


def _left_out(source: str) -> Iterator[Span]:
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        for part in _unread_parts(node):
            yield _span(part, lines)
        for decorator in getattr(node, "decorator_list", ()):
            if _name(decorator) in _TYPES_ONLY:  # its place is the whole line, in parso
                yield (decorator.lineno, 0), (decorator.end_lineno + 1, 0)


def _unread_parts(node: ast.AST) -> Iterator[ast.AST]:
    """Parts of this node that are left out, or itself."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            if node.returns is not None:
                yield node.returns
            if node.name in _READ or any(_name(each) == "overload" for each in node.decorator_list):
                yield node
        case ast.ClassDef():
            yield from (*node.bases, *(keyword.value for keyword in node.keywords))
        case ast.arg() if node.annotation is not None:
            yield node.annotation
        case ast.AnnAssign():
            yield node if _name(node.annotation) == "TypeAlias" else node.annotation
        case ast.Assign() if any(_name(target) == "__all__" for target in node.targets):
            yield node
        case ast.If() if _name(node.test) == "TYPE_CHECKING":
            yield node
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=owner, attr=attr))):
            if attr in _LEVELS and _name(owner) in _LOGS:
                yield node
        case ast.Call(func=function) if _name(function) in ("cast", "TypeVar", "ParamSpec"):
            yield node


def _name(node: ast.AST) -> str:
    """The last word of a name; of a call, that of what is called."""
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            return node.attr
        case ast.Call():
            return _name(node.func)
        case _:
            return ""


def _span(node: ast.AST, lines: list[str]) -> Span:
    """Columns are bytes in `ast`, and characters in parso."""

    def column(line: int, offset: int) -> int:
        return len(lines[line - 1].encode()[:offset].decode())

    first, last = node.lineno, node.end_lineno  # type: ignore[attr-defined]
    begin, end = node.col_offset, node.end_col_offset  # type: ignore[attr-defined]
    return (first, column(first, begin)), (last, column(last, end))
