"""Mutants of a Vyper source: every place where one operator, bound, constant, name or statement can be exchanged for a wrong one.

A mutant is an edit of the source text at a position that the compiler's own syntax tree gives. Types come from the annotated tree,
so that few mutants fail to compile; types, declarations, comments, NatSpec and revert strings are left alone.
"""

from __future__ import annotations

import io
import tokenize
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from vyper import ast
from vyper.compiler.input_bundle import FilesystemInputBundle
from vyper.compiler.phases import CompilerData
from vyper.compiler.settings import Settings
from vyper.semantics.types import BoolT, FlagT, IntegerT, StructT

from contracts.build import EVM_VERSION

__all__ = ["OPERATORS", "Mutant", "mutants_of"]

COMPARISONS = {"<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"), "==": ("!=",), "!=": ("==",)}
ORDERED = {"==": ("<=", ">="), "!=": ("<", ">")}  # between integers, in addition
SYMBOLS = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.In: "in", ast.NotIn: "not in",
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**", ast.Div: "/",
    ast.LShift: "<<", ast.RShift: ">>", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^", ast.And: "and", ast.Or: "or",
}  # fmt: skip
ARITHMETIC = {"+": "-", "-": "+", "*": "//", "//": "*", "%": "//", "<<": ">>", ">>": "<<", "&": "|", "|": "&", "^": "&"}
CALLS = {
    "min": "max", "max": "min", "min_value": "max_value", "max_value": "min_value", "unsafe_add": "unsafe_sub",
    "unsafe_sub": "unsafe_add", "unsafe_mul": "unsafe_add", "unsafe_div": "unsafe_mul",
}  # fmt: skip

# What can stand for nothing: no declaration, and no statement that only the compiler needs.
REMOVABLE = (
    ast.Assert, ast.Raise, ast.Assign, ast.AugAssign, ast.Expr, ast.Log, ast.Break, ast.Continue, ast.Return,
)  # fmt: skip
DECLARATIONS = (
    ast.StructDef, ast.EventDef, ast.FlagDef, ast.InterfaceDef, ast.Import, ast.ImportFrom, ast.ImplementsDecl, ast.UsesDecl,
    ast.InitializesDecl, ast.ExportsDecl, ast.DocStr, ast.arguments,
)  # fmt: skip
KEYWORDS = {"log": "yield", "extcall": "await", "staticcall": "await"}  # those that the compiler hands to Python's parser as others
TAKE_TYPES = ("empty", "min_value", "max_value")  # builtins whose arguments are types


@dataclass(frozen=True)
class Mutant:
    """One edit: ``source[start:end]`` becomes ``new``. ``file`` is relative to the contracts' folder, ``line`` counts from 1."""

    file: str
    line: int
    operator: str
    start: int
    end: int
    new: str
    digest: str

    @property
    def key(self) -> str:
        """A name that lasts until the source changes."""
        return f"{self.file}:{self.line}:{self.operator}:{self.digest}"

    def apply(self, source: str) -> str:
        """The mutated source."""
        return source[: self.start] + self.new + source[self.end :]


@dataclass(frozen=True)
class Source:
    """A contract or module: its text and its annotated tree."""

    file: str
    text: str
    tree: ast.Module

    @classmethod
    def read(cls, root: Path, file: str) -> Source:
        """``file`` below the folder ``root`` of the contracts, which compiles."""
        bundle = FilesystemInputBundle([root])
        found = CompilerData(bundle.load_file(root / file), input_bundle=bundle, settings=Settings(evm_version=EVM_VERSION))
        return cls(file, (root / file).read_text(), found.annotated_vyper_module)

    @cached_property
    def lines(self) -> list[int]:
        """Where each line begins."""
        starts = [0]
        for line in self.text.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        return starts

    @cached_property
    def tokens(self) -> list[tokenize.TokenInfo]:
        return list(tokenize.generate_tokens(io.StringIO(self.text).readline))

    @cached_property
    def code(self) -> str:
        """The text with spaces in the place of comments."""
        masked = list(self.text)
        for token in self.tokens:
            if token.type == tokenize.COMMENT:
                begin = self.lines[token.start[0] - 1] + token.start[1]
                masked[begin : begin + len(token.string)] = " " * len(token.string)
        return "".join(masked)

    @cached_property
    def ends(self) -> set[tuple[int, int]]:
        """Line and column of the end of every token that an expression or statement can end with."""
        return {
            t.end for t in self.tokens if t.type in (tokenize.NAME, tokenize.NUMBER, tokenize.STRING) or t.string in tuple(")]}")
        }

    @cached_property
    def moved(self) -> dict[int, list[tuple[int, int]]]:
        """Line → after which column, and by how much, keywords such as `log`, which is `yield` to the parser, moved the rest."""
        found: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for token in self.tokens:
            if token.type == tokenize.NAME and token.string in KEYWORDS:
                found[token.start[0]].append((token.start[1], len(token.string) - len(KEYWORDS[token.string])))
        return found

    def begin(self, node: ast.VyperNode) -> int:
        return self.lines[node.lineno - 1] + node.col_offset

    def end(self, node: ast.VyperNode) -> int:
        """The compiler gives the true column of an end only where another token begins there; else it is that in Python's text."""
        line, column = node.end_lineno, node.end_col_offset
        text = self.code[self.begin(node) : self.lines[line - 1] + column]
        if (line, column) not in self.ends or any(text.count(pair[0]) != text.count(pair[1]) for pair in ("()", "[]")):
            column += sum(by for keyword, by in self.moved[line] if keyword < column)
        return self.lines[line - 1] + column

    def of(self, node: ast.VyperNode) -> str:
        return self.text[self.begin(node) : self.end(node)]

    def between(self, left: ast.VyperNode, right: ast.VyperNode, symbol: str) -> tuple[int, int]:
        """Where the operator ``symbol`` stands between its operands."""
        gap = self.code[self.end(left) : self.begin(right)]
        at = gap.find(symbol)
        if gap.strip(" ()\n\t=") != symbol.strip("="):
            raise ValueError(f"{self.file}:{left.lineno}: {gap!r} where {symbol!r} was expected")
        return self.end(left) + at, self.end(left) + at + len(symbol)


Edit = tuple[int, int, str]
Operator = Callable[[Source, Any], Iterator[Edit]]


def mutants_of(root: Path, file: str) -> list[Mutant]:
    """All mutants of ``file`` below ``root``, in the order of the text, each once. Raises Vyper's exceptions on a faulty source."""
    source = Source.read(root, file)
    found: dict[str, Mutant] = {}
    for node in _walk(source.tree):
        for name, operator in OPERATORS.items():
            for start, end, new in operator(source, node):
                line = source.text.count("\n", 0, start) + 1
                text = source.text[:start] + new + source.text[end:]
                digest = sha256(text.encode()).hexdigest()[:10]
                found.setdefault(digest, Mutant(file, line, name, start, end, new, digest))
    return sorted(found.values(), key=lambda mutant: (mutant.start, mutant.end, mutant.operator, mutant.new))


def _walk(node: ast.VyperNode) -> Iterator[ast.VyperNode]:
    """``node`` and all below it that is executed, not types and declarations."""
    if isinstance(node, DECLARATIONS) or (isinstance(node, ast.keyword) and node.arg in ("bound", "output_type")):
        return
    yield node
    left_out = {id(getattr(node, name, None)) for name in ("annotation", "returns")}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        types = node.args if node.func.id in TAKE_TYPES else node.args[1:] if node.func.id == "convert" else []
        left_out |= {id(argument) for argument in types}
    for child in node.get_children():
        if id(child) not in left_out:
            yield from _walk(child)


def _type(node: ast.VyperNode) -> Any:
    return node._metadata.get("type")


def _comparison(source: Source, node: Any) -> Iterator[Edit]:
    if not isinstance(node, ast.Compare):
        return
    symbol = SYMBOLS[type(node.op)]
    if symbol in ("in", "not in"):
        place = source.between(node.left, node.right, symbol)
        yield *place, "in" if symbol == "not in" else "not in"
        return
    others = COMPARISONS[symbol]
    kind = _type(node.left)
    if isinstance(kind, IntegerT):
        others += tuple(other for other in ORDERED.get(symbol, ()) if other not in _same_at_the_end(node, kind))
    for other in others:
        yield *source.between(node.left, node.right, symbol), other


def _same_at_the_end(node: Any, kind: IntegerT) -> tuple[str, ...]:
    """Comparisons that say the same where nothing lies beyond the literal: below an unsigned 0, above the 1 of `x & 1`."""
    if not isinstance(node.right, ast.Int):
        return ()
    if node.right.value == 0 and not kind.is_signed:
        return "<=", ">"
    bit = isinstance(node.left, ast.BinOp) and isinstance(node.left.op, ast.BitAnd) and isinstance(node.left.right, ast.Int)
    return (">=", "<") if bit and node.left.right.value == node.right.value == 1 else ()


def _overwritten(declaration: ast.AnnAssign) -> bool:
    """Whether the first statement after it that names the variable assigns to it, as several results at once have to be."""
    body = declaration.get_ancestor().body
    name = declaration.target.id
    for statement in body[body.index(declaration) + 1 :]:
        named = [found for found in statement.get_descendants(ast.Name) if found.id == name]
        if named:
            target = statement.target if isinstance(statement, ast.Assign) else None
            return isinstance(target, ast.Tuple) and all(found.get_ancestor() is target for found in named)
    return False


def _constant(source: Source, node: Any) -> Iterator[Edit]:
    if isinstance(node, ast.NameConstant) and node.value in (True, False):
        yield source.begin(node), source.end(node), str(not node.value)
    elif isinstance(node, ast.Hex) and len(node.value) == 4:
        value = int(node.value, 16)
        for near in {max(value - 1, 0), min(value + 1, 255)} - {value}:
            yield source.begin(node), source.end(node), f"0x{near:02x}"
    elif isinstance(node, ast.Int):
        parent = node.get_ancestor()
        if isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Pow) and parent.left is node:
            return
        if isinstance(parent, ast.AnnAssign) and _overwritten(parent):
            return
        for near in (node.value - 1, node.value + 1):
            if near >= 0:
                yield source.begin(node), source.end(node), str(near)


def _arithmetic(source: Source, node: Any) -> Iterator[Edit]:
    if isinstance(node, ast.BinOp) and (symbol := SYMBOLS[type(node.op)]) in ARITHMETIC:
        yield *source.between(node.left, node.right, symbol), ARITHMETIC[symbol]
    elif isinstance(node, ast.AugAssign) and (symbol := SYMBOLS[type(node.op)]) in ARITHMETIC:
        yield *source.between(node.target, node.value, symbol + "="), ARITHMETIC[symbol] + "="
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
        yield source.begin(node.func), source.end(node.func), CALLS[node.func.id]


def _shift(source: Source, node: Any) -> Iterator[Edit]:
    """A shift by an amount that is no literal, one further; literals are constants."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.LShift | ast.RShift) and not isinstance(node.right, ast.Int):
        yield source.begin(node.right), source.end(node.right), f"({source.of(node.right)} + 1)"


def _boolean(source: Source, node: Any) -> Iterator[Edit]:
    if isinstance(node, ast.BoolOp):
        symbol = SYMBOLS[type(node.op)]
        for left, right in zip(node.values, node.values[1:], strict=False):
            yield *source.between(left, right, symbol), "or" if symbol == "and" else "and"
        for value in node.values:
            yield source.begin(value), source.end(value), str(symbol == "and")
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield source.begin(node), source.end(node), f"({source.of(node.operand)})"


def _condition(source: Source, node: Any) -> Iterator[Edit]:
    """A condition that is no comparison, negated; those have operators of their own."""
    if isinstance(node, ast.If | ast.IfExp) and not isinstance(node.test, ast.Compare | ast.BoolOp | ast.UnaryOp):
        yield source.begin(node.test), source.end(node.test), f"not ({source.of(node.test)})"


def _sign(source: Source, node: Any) -> Iterator[Edit]:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield source.begin(node), source.end(node), f"({source.of(node.operand)})"


def _removal(source: Source, node: Any) -> Iterator[Edit]:
    if isinstance(node, REMOVABLE):
        function = node.get_ancestor(ast.FunctionDef)
        if not (isinstance(node, ast.Return) and function.body[-1] is node):
            yield source.begin(node), source.end(node), "pass"


def _guard(source: Source, node: Any) -> Iterator[Edit]:
    """A function without its lock, or that takes no value where it should."""
    if isinstance(node, ast.FunctionDef):
        for decorator in node.decorator_list:
            if source.of(decorator) in ("nonreentrant", "payable"):
                yield source.begin(decorator) - 1, source.end(decorator), ""


def _sender(source: Source, node: Any) -> Iterator[Edit]:
    if isinstance(node, ast.Attribute) and source.of(node) == "msg.sender":
        yield source.begin(node), source.end(node), "tx.origin"


def _returned(source: Source, node: Any) -> Iterator[Edit]:
    """Nothing returned in the place of something; of a truth, its opposite."""
    if not isinstance(node, ast.Return) or node.value is None:
        return
    returns = node.get_ancestor(ast.FunctionDef).returns
    parts = returns.elements if isinstance(returns, ast.Tuple) else [returns]
    nothing = ", ".join(f"empty({source.of(part)})" for part in parts)
    place = source.begin(node.value), source.end(node.value)
    if isinstance(_type(node.value), BoolT):
        if not isinstance(node.value, ast.NameConstant | ast.Compare | ast.BoolOp | ast.UnaryOp):
            yield *place, f"not ({source.of(node.value)})"
    elif source.of(node.value) not in ("0", nothing):
        yield *place, nothing


def _variable(source: Source, node: Any) -> Iterator[Edit]:
    """Another variable of the contract, field of a structure or member of a flag, of the same type."""
    if not isinstance(node, ast.Attribute):
        return
    owner = _type(node.value)
    if isinstance(node.value, ast.Name) and node.value.id == "self":
        declared = source.tree.get_children(ast.VariableDecl)
        stored = [v for v in declared if not (v.is_constant or v.is_immutable or v.is_transient)]
        own = next((v for v in stored if v.target.id == node.attr), None)
        alike = [] if own is None else [v.target.id for v in stored if source.of(v.annotation) == source.of(own.annotation)]
    elif isinstance(owner, StructT):
        alike = [name for name, kind in owner.members.items() if kind == owner.members[node.attr]]
    elif isinstance(_type(node), FlagT) and node.attr in _type(node)._flag_members:
        alike = list(_type(node)._flag_members)
    else:
        return
    if len(alike) > 1:
        other = alike[(alike.index(node.attr) + 1) % len(alike)]
        yield source.end(node) - len(node.attr), source.end(node), other


OPERATORS: dict[str, Operator] = {
    "comparison": _comparison,
    "constant": _constant,
    "arithmetic": _arithmetic,
    "shift": _shift,
    "boolean": _boolean,
    "condition": _condition,
    "sign": _sign,
    "removal": _removal,
    "guard": _guard,
    "sender": _sender,
    "returned": _returned,
    "variable": _variable,
}
"""Name → what yields the edits at one node of the tree."""
