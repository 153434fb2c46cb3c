"""Mutants of Python: found in the syntax tree, written as `mutated if mutant(17) else original`.

Each function also says that it was entered, by which the tests are found that depend on a number
of a module or class, which is read once, at the import.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from schemata import Site

__all__ = ["Scanned", "same", "scan", "write"]

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
NAMES = {
    "min": "max", "max": "min", "any": "all", "all": "any", "maximum": "minimum",
    "minimum": "maximum", "beta1": "beta2", "beta2": "beta1", "floor": "ceil", "ceil": "floor",
}  # fmt: skip
WORDS = {"decoupled": "coupled", "coupled": "decoupled"}
TEXT = (ast.JoinedStr, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.ListComp)


def is_text(node: ast.expr) -> bool:
    """Where + and % are no arithmetic."""
    return isinstance(node, TEXT) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    )


SYMMETRIC = r"(np\.|numpy\.|math\.|os\.path\.)?(max|min|maximum|minimum|isclose|samestat)\("


def same(site: Site) -> bool:
    """Whether a mutant differs from its original to nobody who calls it, as can be read off it.

    Arguments of the larger of two in the other order; None for False; what is asserted of the
    length of two lists; what only checkers of types read.
    """
    node = site.place[0]  # type: ignore[index]
    if site.kind == "swapped arguments":
        return bool(re.match(SYMMETRIC, site.before))
    return (site.before, site.after) in {
        ("return False", "return"), ("not TYPE_CHECKING", "TYPE_CHECKING"),
    } or (site.kind == "changed constant" and getattr(node, "strict", False))  # fmt: skip


class Scanned(ast.NodeVisitor):
    """The sites of a file, and its functions: their names and the names that stand in them."""

    def __init__(self, tree: ast.Module, file: str) -> None:
        self.file = file
        self.tree = tree
        self.sites: list[Site] = []
        self.functions: list[tuple[ast.AST, str, set[str]]] = []
        self.within: list[str] = []
        self.visit(tree)

    def add(self, node: ast.AST, kind: str, mutated: ast.AST | None) -> None:
        after = "nothing" if mutated is None else ast.unparse(mutated)
        function = ".".join(self.within) or "the module"
        where: tuple[ast.AST, ast.AST | None] = (node, mutated)
        self.sites.append(
            Site(self.file, getattr(node, "lineno", 0), function, kind, ast.unparse(node), after,
                 where)
        )  # fmt: skip

    def change(self, node: ast.AST, kind: str, act: Callable[[ast.AST], None]) -> None:
        mutated = copy.deepcopy(node)
        act(mutated)
        self.add(node, kind, mutated)

    def names_bound(self, line: int) -> set[str]:
        """What the statement of a module or class at this line gives names to."""
        names = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assign | ast.AnnAssign) and (
                node.lineno <= line <= (node.end_lineno or node.lineno)
            ):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    parts = ast.walk(target)
                    names |= {part.id for part in parts if isinstance(part, ast.Name)}
        return names

    # What is not mutated: annotations, messages, decorators, bases, patterns.

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_arg(self, node: ast.arg) -> None:
        pass

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    def visit_Raise(self, node: ast.Raise) -> None:
        self.add(node, "removed check", None)

    def visit_match_case(self, node: ast.match_case) -> None:
        for statement in node.body:
            self.visit(statement)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.within.append(node.name)
        for statement in node.body:
            self.visit(statement)
        self.within.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.within.append(node.name)
        names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        names |= {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
        self.functions.append((node, ".".join(self.within), names))
        self.visit(node.args)
        for statement in node.body:
            self.visit(statement)
        self.within.pop()

    # What is.

    def negate(self, node: ast.expr) -> None:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self.add(node, "negated condition", copy.deepcopy(node.operand))
        elif not isinstance(node, ast.Compare):  # those have a kind of their own
            mutated = ast.UnaryOp(ast.Not(), copy.deepcopy(node))
            self.add(node, "negated condition", mutated)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) == "TYPE_CHECKING":
            return
        self.negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self.negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self.negate(test)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for place, operator in enumerate(node.ops):
            other = COMPARISONS[type(operator)]
            ordered = isinstance(operator, ast.Lt | ast.LtE | ast.Gt | ast.GtE)
            kind = "wrong boundary side" if ordered else "negated condition"

            def act(mutated: ast.AST, place: int = place, other: type = other) -> None:
                assert isinstance(mutated, ast.Compare)
                mutated.ops[place] = other()

            self.change(node, kind, act)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        def act(mutated: ast.AST) -> None:
            assert isinstance(mutated, ast.BoolOp)
            mutated.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()

        self.change(node, "and for or", act)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        other = OPERATORS.get(type(node.op))
        if other and not is_text(node.left) and not is_text(node.right):

            def act(mutated: ast.AST) -> None:
                assert isinstance(mutated, ast.BinOp) and other
                mutated.op = other()

            self.change(node, "wrong operator", act)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.USub):
            self.add(node, "lost sign", copy.deepcopy(node.operand))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self.add(node, "changed constant", ast.Constant(not value))
        elif isinstance(value, int):
            self.add(node, "off by one", ast.Constant(value + 1))
        elif isinstance(value, float):
            self.add(node, "changed threshold", ast.Constant(2 * value if value else 1.0))
        elif isinstance(value, str) and value in WORDS:
            self.add(node, "coupled for decoupled", ast.Constant(WORDS[value]))

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load) and node.id in NAMES:
            self.add(node, "swapped name", ast.Name(NAMES[node.id], ast.Load()))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Load) and node.attr in NAMES:

            def act(mutated: ast.AST) -> None:
                assert isinstance(mutated, ast.Attribute)
                mutated.attr = NAMES[node.attr]

            self.change(node, "swapped name", act)
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg == "strict" and isinstance(node.value, ast.Constant) and node.value.value:
            node.value.strict = True  # type: ignore[attr-defined]
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        first = node.args[:2]
        plain = not any(isinstance(argument, ast.Starred) for argument in first)
        if len(first) == 2 and plain and ast.unparse(first[0]) != ast.unparse(first[1]):

            def act(mutated: ast.AST) -> None:
                assert isinstance(mutated, ast.Call)
                mutated.args[:2] = mutated.args[1::-1]

            self.change(node, "swapped arguments", act)
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call | ast.Await):
            self.add(node, "removed statement", None)
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if isinstance(node.targets[0], ast.Name) and node.targets[0].id.startswith("__"):
            return
        if all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets):
            self.add(node, "removed statement", None)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.add(node, "removed statement", None)
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and ast.unparse(node.value) not in ("None", "self"):
            self.add(node, "nothing returned", ast.Return(None))
        self.generic_visit(node)

    def visit_Continue(self, node: ast.Continue) -> None:
        self.add(node, "removed statement", None)

    def visit_Break(self, node: ast.Break) -> None:
        self.add(node, "removed statement", None)

    def visit_Delete(self, node: ast.Delete) -> None:
        self.add(node, "removed statement", None)


def scan(path: Path, root: Path) -> Scanned:
    return Scanned(ast.parse(path.read_text()), str(path.relative_to(root)))


def question(number: int) -> ast.expr:
    return ast.Call(ast.Name("__mutant__", ast.Load()), [ast.Constant(number)], [])


class Writer(ast.NodeTransformer):
    def __init__(
        self, mutants: dict[int, list[tuple[int, ast.AST | None]]], entered: dict[int, int]
    ) -> None:
        self.mutants, self.entered = mutants, entered

    def visit(self, node: ast.AST) -> ast.AST:
        key = id(node)
        new: ast.AST = super().generic_visit(node)
        if key in self.entered:
            assert isinstance(new, ast.FunctionDef)
            new.body.insert(int(ast.get_docstring(new) is not None),
                            ast.Expr(question(self.entered[key])))  # fmt: skip
        for number, mutated in self.mutants.get(key, []):
            if isinstance(new, ast.stmt):
                body = mutated if isinstance(mutated, ast.stmt) else ast.Pass()
                new = ast.If(question(number), [body], [new])
            else:
                assert isinstance(new, ast.expr) and isinstance(mutated, ast.expr)
                new = ast.IfExp(question(number), mutated, new)
        return new


def after_future(tree: ast.Module) -> Iterator[int]:
    for place, node in enumerate(tree.body):
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            yield place + 1
    yield int(ast.get_docstring(tree) is not None)


def write(scanned: Scanned, chosen: list[tuple[int, Site]], entered: dict[str, int]) -> str:
    """The schema of a file; `entered` numbers its functions."""
    mutants: dict[int, list[tuple[int, ast.AST | None]]] = {}
    for number, site in chosen:
        node, mutated = site.place  # type: ignore[misc]
        mutants.setdefault(id(node), []).append((number, mutated))
    functions = {id(node): entered[name] for node, name, _ in scanned.functions}
    tree = Writer(mutants, functions).visit(scanned.tree)
    assert isinstance(tree, ast.Module)
    header = ast.ImportFrom("stepsize_mutant", [ast.alias("__mutant__")], 0)
    tree.body.insert(next(after_future(tree)), header)
    return ast.unparse(ast.fix_missing_locations(tree))
