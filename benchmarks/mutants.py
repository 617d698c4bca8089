"""Which mutants there are of a module, and which of them make sense: cosmic-ray's, in a session file.

A session is one SQLite file per module, named after the contents of the module and of its tests: it can be
interrupted at any moment, and one that is complete is never run again until one of the two changes.
"""

import ast
import difflib
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cosmic_ray.plugins
from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec, TestOutcome

__all__ = ["LEFT_OUT", "Target", "changed_lines", "drawn", "left_out", "mutated", "open_session"]

_SAME_BUT_FOR_IDENTITY = frozenset({("Eq", "Is"), ("Is", "Eq"), ("NotEq", "IsNot"), ("IsNot", "NotEq")})

LEFT_OUT = {
    "annotation": "changes only a type annotation or a type alias",
    "dataclass": "changes only the flags of @dataclass (frozen, slots), which mypy checks where they are used",
    "identity": "exchanges == and `is`, which ruff checks (E711, F632)",
    "no operator": "an asterisk that unpacks or marks keyword arguments, or a | between patterns",
}


@dataclass(frozen=True, slots=True)
class Target:
    """A module to mutate and the test files that should notice."""

    module: str
    path: Path
    tests: tuple[Path, ...]

    @property
    def source(self) -> str:
        """The module's text."""
        return self.path.read_text()

    def session(self, folder: Path) -> Path:
        """Where the results of these contents are kept."""
        tests = hashlib.sha256(b"\0".join(path.read_bytes() for path in self.tests)).hexdigest()[:8]
        return folder / f"{self._prefix}{tests}.sqlite"

    def older(self, folder: Path) -> Path | None:
        """The newest session of the same source with other tests, if there is one."""
        found = [path for path in folder.glob(f"{self._prefix}*.sqlite") if path != self.session(folder)]
        return max(found, key=lambda path: path.stat().st_mtime, default=None)

    @property
    def _prefix(self) -> str:
        return f"{self.module}-{hashlib.sha256(self.path.read_bytes()).hexdigest()[:8]}-"


def open_session(target: Target, folder: Path, *, survivors: bool) -> WorkDB:
    """Open the module's session, made anew where there is none.

    Args:
        survivors: begin with the kills of an older session of the same source. Right where tests were only added.
    """
    path = target.session(folder)
    if path.is_file():
        return WorkDB(path, WorkDB.Mode.open)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    older = target.older(folder) if survivors else None
    if older is not None:
        shutil.copyfile(older, unfinished)
        _forget_survivors(unfinished)
    else:
        session = WorkDB(unfinished, WorkDB.Mode.create)
        init([target.path], session, {})
        session.close()
    unfinished.rename(path)
    return WorkDB(path, WorkDB.Mode.open)


def _forget_survivors(path: Path) -> None:
    kept = WorkDB(path, WorkDB.Mode.open)
    work = [
        (item, result)
        for item, result in kept.completed_work_items
        if result.test_outcome is not TestOutcome.SURVIVED
    ]
    items = kept.work_items
    kept.clear()
    kept.add_work_items(items)
    for item, result in work:
        kept.set_result(item.job_id, result)
    kept.close()


def left_out(source: str) -> Callable[[MutationSpec], str | None]:
    """For the mutants of one module: why one makes no sense (a key of LEFT_OUT), if it does not."""
    spans = _spans(source)

    def within(name: str, at: tuple[int, int]) -> bool:
        return any(start <= at < end for start, end in spans[name])

    def cause(mutation: MutationSpec) -> str | None:
        at, operator = mutation.start_pos, mutation.operator_name.rpartition("/")[2]
        if within("annotation", at):
            return "annotation"
        if within("dataclass", at):
            return "dataclass"
        if tuple(operator.rpartition("Operator_")[2].split("_")) in _SAME_BUT_FOR_IDENTITY:
            return "identity"
        if operator.startswith("ReplaceBinaryOperator") and not within("operator", at):
            return "no operator"
        return None

    return cause


Span = tuple[tuple[int, int], tuple[int, int]]


def _spans(source: str) -> dict[str, list[Span]]:
    """Where annotations and type aliases stand, the flags of @dataclass, and binary operators."""
    tree, lines = ast.parse(source), source.splitlines()
    spans: dict[str, list[Span]] = {"annotation": [], "dataclass": [], "operator": []}
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(returns=ast.expr() as found) | ast.AsyncFunctionDef(returns=ast.expr() as found):
                spans["annotation"].append(_span(found, lines))
            case ast.arg(annotation=ast.expr() as found) | ast.AnnAssign(annotation=found):
                spans["annotation"].append(_span(found, lines))
            case ast.ClassDef():
                calls = [decorator for decorator in node.decorator_list if isinstance(decorator, ast.Call)]
                spans["dataclass"] += [_span(call, lines) for call in calls]
            case ast.BinOp():
                spans["operator"].append((_span(node.left, lines)[1], _span(node.right, lines)[0]))
            case _:
                pass
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and _is_union(statement.value):
            spans["annotation"].append(_span(statement.value, lines))
    return spans


def _is_union(node: ast.expr) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)


def _span(node: ast.expr, lines: list[str]) -> Span:
    """ast counts bytes where cosmic-ray counts characters."""
    assert node.end_lineno is not None
    assert node.end_col_offset is not None

    def place(line: int, offset: int) -> tuple[int, int]:
        return line, len(lines[line - 1].encode()[:offset].decode())

    return place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset)


def drawn(sessions: Mapping[Target, WorkDB], count: int | None, seed: int) -> set[str]:
    """The job ids of `count` mutants drawn over all sessions; None: of all. What is left out is not in the draw.

    A mutant's place in the draw depends on the seed and on itself alone: a change of one module leaves the draw of
    the others nearly as it was.
    """
    places: list[tuple[str, str]] = []
    for target, session in sessions.items():
        cause = left_out(target.source)
        for item in session.work_items:
            (mutation,) = item.mutations
            if cause(mutation) is None:
                key = f"{seed} {target.module} {mutation.operator_name} {mutation.occurrence}"
                places.append((hashlib.sha256(key.encode()).hexdigest(), item.job_id))
    return {job for _, job in sorted(places)[:count]}


def mutated(source: str, mutation: MutationSpec) -> str:
    """The module's text with one mutation. Raises ValueError where the source has no such place."""
    operator = cosmic_ray.plugins.get_operator(mutation.operator_name)(**mutation.operator_args)
    text: str | None = mutate_code(source, operator, mutation.occurrence)
    if text is None:
        raise ValueError(
            f"{mutation.module_path} has no occurrence {mutation.occurrence} of {mutation.operator_name}"
        )
    return text


def changed_lines(before: str, after: str) -> Iterator[str]:
    """The lines that differ, each with - or + before it."""
    for line in difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""):
        if not line.startswith(("---", "+++", "@@")):
            yield f"{line[0]} {line[1:].strip()}"
