"""The structure of the source tree: its size, its branches on the kind of prediction, its depth.

The tree is only parsed, nothing of it is imported, so another commit is measured just as well:

    python benchmarks/structure.py                                   # src/modelwright, here
    git worktree add ../former 3ee6f59
    python benchmarks/structure.py --tree ../former/src/modelwright --verbose
    python benchmarks/structure.py --commit HEAD                     # and the files of a commit

What is counted:

- *Source lines*: all lines of `.py` files, by package (the first folder below the tree).
- *Tables that branch on the kind of prediction*. A name of a kind is the name of a task, a kind of
  output, in the words of today or of before `OutputKind` (as a string or as `OutputKind.…`), a
  class of `recipe/` that describes a data source or a model, or the name that a recipe gives it.
  A table is a dictionary literal all of whose keys are names of kinds, or pairs with one; a `match`
  statement with cases of such names; or a chain: all comparisons in one function (`==`, `!=`, `is`,
  `in`, `isinstance`) of one expression with such names. Each counts once, however many branches it
  has, and must name two kinds or more; places that ask for one kind alone are counted apart, as
  `single_tests`. Tables that name nothing but sources or models are among them, and counted once
  more as `tables_on_specs_alone`. Strings that are also the names of columns and arrays (`label`,
  `text`, `boxes` …) count in a comparison only where the compared expression is called a kind,
  task, target and the like: see `SUBJECTS`.
- *Functions* over 60 lines, from `def` to the last line, and *modules* over 450.
- *`Any`*: each use of the name but its import.
- *Reach*: the share of all functions and methods that `pipeline.running.run` reaches within 4
  calls, in a static graph by name. A function calls what its body mentions: functions and classes
  of its module, or imported (also inside of it, through a package's `__init__`). `x.method` stands
  for every method of that name; a constant, for all that its value mentions, at no cost. So the
  graph has more calls than there are, the same on both sides of a comparison.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TREE = Path(__file__).parents[1] / "src" / "modelwright"
LONG_FUNCTION = 60
LONG_MODULE = 450
CALLS = 4
START = "pipeline.running.run"

TASKS = {
    "image-classification",
    "text-classification",
    "audio-classification",
    "regression",
    "object-detection",
    "language-modeling",
    "translation",
    "summarization",
    "speech-recognition",
}
KINDS = {"single_label", "multi_label", "ctc", "seq2seq", "causal_lm"}
"""Of `OutputKind`, those that mean nothing else; `regression` is a task too."""
COMMON_WORDS = {
    "label",
    "labels",
    "label sets",
    "numbers",
    "letters",
    "text",
    "next",
    "boxes",
    "logits",
    "values",
    "tokens",
    "texts",
    "frames",
}
"""Kinds that are also names of columns, arrays, files."""
SUBJECTS = {"kind", "output_kind", "target", "task", "predicted", "of", "output", "holds", "wants"}
"""Last names of an expression that holds a kind of prediction."""
SPEC_SUBJECTS = {"name", "source", "model"}
"""Last names of an expression that holds the name of a source or a model."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Module:
    """A parsed file, with its dotted name below the tree."""

    path: Path
    name: str
    is_package: bool
    lines: int
    tree: ast.Module

    @property
    def package(self) -> str:
        """The first folder; a module of the tree itself is its own."""
        return self.name.partition(".")[0] or "(root)"


@dataclass(frozen=True, slots=True)
class Table:
    """A place that branches on the kind of prediction."""

    path: Path
    line: int
    form: str
    branches: tuple[str, ...]
    on_specs: bool
    """Whether all it names are sources or models, not tasks or kinds of output."""


def read_tree(root: Path) -> list[Module]:
    """Parse every module of a tree.

    Raises:
        SystemExit: there is no module.
    """
    modules = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        text = path.read_text(encoding="utf-8")
        name = ".".join(parts[:-1] if is_package else parts)
        modules.append(Module(path, name, is_package, text.count("\n"), ast.parse(text)))
    if not modules:
        raise SystemExit(f"{root} holds no Python files")
    return modules


def functions_of(tree: ast.AST) -> Iterator[Function]:
    """Yield each function and method, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def length(node: Function) -> int:
    """Return the lines of a function, from `def` on."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


# Tables that branch on the kind of prediction


class Names:
    """What names a kind: constants, attributes of `OutputKind`, specs of `recipe/`."""

    def __init__(self, modules: Sequence[Module]) -> None:
        self.specs: set[str] = set()
        self.spec_names: set[str] = set()
        self.collections: dict[str, list[str]] = {}
        for module in modules:
            if module.package == "recipe":
                self._read_specs(module.tree)
        for module in modules:
            self._read_collections(module.tree)

    def _read_specs(self, tree: ast.Module) -> None:
        for node in tree.body:
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
                continue
            if node.name.endswith(("Data", "Model")):
                self.specs.add(node.name)
                self.spec_names.update(_literal_tags(node))

    def _read_collections(self, tree: ast.Module) -> None:
        """Keep module constants that are tuples, lists or sets of kinds."""
        for node in tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                kinds = self._members(node.value, common=True)
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    if isinstance(target, ast.Name) and kinds:
                        self.collections[target.id] = kinds

    def kind(self, node: ast.expr, *, common: bool, tags: bool = False) -> str | None:
        """Return the kind that an expression names, or a pair with one, if it does.

        Args:
            node: the expression.
            common: whether words count that are also names of columns and arrays.
            tags: whether the names of sources and models count.
        """
        if isinstance(node, ast.Tuple):
            parts = (self.kind(part, common=common, tags=tags) for part in node.elts)
            return next((part for part in parts if part), None)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            known = TASKS | KINDS
            known = known | COMMON_WORDS if common else known
            known = known | self.spec_names if tags else known
            return node.value if node.value in known else None
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "OutputKind":
                return f"OutputKind.{node.attr}"
            return node.attr if node.attr in self.specs else None
        return node.id if isinstance(node, ast.Name) and node.id in self.specs else None

    def _members(self, node: ast.expr, *, common: bool, tags: bool = False) -> list[str]:
        """Return the kinds that a collection lists; none where it lists anything else."""
        if isinstance(node, ast.Name):
            return self.collections.get(node.id, [])
        if isinstance(node, ast.Call) and len(node.args) == 1:  # frozenset({…})
            node = node.args[0]
        if not isinstance(node, ast.Tuple | ast.List | ast.Set):
            return []
        kinds = [self.kind(item, common=common, tags=tags) for item in node.elts]
        return [kind for kind in kinds if kind] if all(kinds) else []

    def are_specs(self, branches: Sequence[str]) -> bool:
        """Say whether all names are those of sources or models."""
        known = (self.specs | self.spec_names) - COMMON_WORDS
        return all(name in known for name in branches)

    def of_dict(self, node: ast.Dict) -> tuple[str, ...]:
        """Return the kinds that are the keys of a dictionary; none where it isn't a table."""
        keys = [key for key in node.keys if key is not None]
        kinds = [self.kind(key, common=True) for key in keys]
        tags = [self.kind(key, common=False, tags=True) for key in keys]
        for named in (kinds, tags):
            if len(keys) > 1 and all(named):
                return tuple(name for name in named if name)
        return ()

    def of_test(self, node: ast.expr) -> tuple[str, tuple[str, ...]] | None:
        """Return what a comparison asks about and the kinds it asks for, if it does."""
        if isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Name) or node.func.id != "isinstance":
                return None
            subject, classes = node.args
            parts = _parts_of_union(classes)
            kinds = [self.kind(part, common=False) for part in parts]
            named = tuple(kind for kind in kinds if kind)
            return (ast.unparse(subject), named) if named else None
        if not isinstance(node, ast.Compare) or len(node.ops) != 1:
            return None
        subject, other = node.left, node.comparators[0]
        last = _last_name(subject)
        common, tags = last in SUBJECTS, last in SPEC_SUBJECTS
        if isinstance(node.ops[0], ast.In | ast.NotIn):
            members = self._members(other, common=common, tags=tags)
            held = isinstance(other, ast.Name) and not (common or tags)
            return (ast.unparse(subject), tuple(members)) if members and not held else None
        kind = self.kind(other, common=common, tags=tags)
        return (ast.unparse(subject), (kind,)) if kind else None

    def of_match(self, node: ast.Match) -> tuple[str, ...]:
        """Return the kinds that are cases of a `match` statement."""
        last = _last_name(node.subject)
        named: list[str] = []
        for case in node.cases:
            for part in ast.walk(case.pattern):
                value = part.value if isinstance(part, ast.MatchValue) else None
                value = part.cls if isinstance(part, ast.MatchClass) else value
                if value is not None:
                    kind = self.kind(value, common=last in SUBJECTS, tags=last in SPEC_SUBJECTS)
                    named += [kind] if kind else []
        return tuple(dict.fromkeys(named))


def _literal_tags(node: ast.ClassDef) -> Iterator[str]:
    """Yield the tags of a spec: `name: Literal["cnn"]`, `source: Literal["table"]`."""
    for line in node.body:
        if (
            isinstance(line, ast.AnnAssign)
            and isinstance(line.target, ast.Name)
            and line.target.id in ("name", "source")
        ):
            for part in ast.walk(line.annotation):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


def _parts_of_union(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp):
        return _parts_of_union(node.left) + _parts_of_union(node.right)
    return list(node.elts) if isinstance(node, ast.Tuple) else [node]


def _last_name(node: ast.expr) -> str:
    """Return `kind` of `prepared.kind`, `kind_of(recipe)` and `kind`."""
    if isinstance(node, ast.Call):
        node = node.func
    name = node.attr if isinstance(node, ast.Attribute) else ""
    name = node.id if isinstance(node, ast.Name) else name
    return name.removesuffix("_of").lstrip("_")


def tables_of(modules: Sequence[Module]) -> list[Table]:
    """Return each place that branches on the kind of prediction, once."""
    names, tables = Names(modules), []

    def add(path: Path, line: int, form: str, kinds: tuple[str, ...]) -> None:
        tables.append(Table(path, line, form, kinds, names.are_specs(kinds)))

    for module in modules:
        chains: dict[tuple[ast.AST, str], list[tuple[int, str]]] = defaultdict(list)
        for scope, node in _scoped(module.tree, module.tree):
            if isinstance(node, ast.Dict) and (kinds := names.of_dict(node)):
                add(module.path, node.lineno, "dict", kinds)
            elif isinstance(node, ast.Match) and (kinds := names.of_match(node)):
                add(module.path, node.lineno, "match", kinds)
            elif isinstance(node, ast.expr) and (test := names.of_test(node)):
                chains[scope, test[0]] += [(node.lineno, kind) for kind in test[1]]
        for branches in chains.values():
            kinds = tuple(dict.fromkeys(kind for _, kind in branches))
            add(module.path, min(line for line, _ in branches), "chain", kinds)
    return sorted(tables, key=lambda table: (table.path, table.line))


def _scoped(node: ast.AST, scope: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Yield every node with the function that it stands in."""
    for child in ast.iter_child_nodes(node):
        yield scope, child
        yield from _scoped(child, child if isinstance(child, Function) else scope)


# What `run` reaches


@dataclass(slots=True)
class Graph:
    """Functions by their dotted name, with what each mentions."""

    functions: dict[str, Function] = field(default_factory=dict)
    """By name: `package.module.Class.method`."""
    home: dict[str, Module] = field(default_factory=dict)
    classes: dict[str, list[str]] = field(default_factory=dict)
    """What making an instance calls, by the name of the class."""
    constants: dict[str, ast.expr] = field(default_factory=dict)
    methods: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    imports: dict[str, dict[str, str]] = field(default_factory=dict)
    """By module, what a name in it stands for."""
    modules: set[str] = field(default_factory=set)
    names: dict[ast.AST, str] = field(default_factory=dict)

    def calls(self, name: str) -> set[str]:
        """Return the functions that a function calls."""
        return self._mentions(self.functions[name], self.home[name], set())

    def _mentions(self, node: ast.AST, module: Module, seen: set[str]) -> set[str]:
        called: set[str] = set()
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
                called |= self._resolve(f"{module.name}.{part.id}", module, part.id, seen)
            elif isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Load):
                called |= self._attribute(part, module, seen)
            elif isinstance(part, Function) and part is not node:
                called.add(self.names[part])
        return called

    def _attribute(self, node: ast.Attribute, module: Module, seen: set[str]) -> set[str]:
        if isinstance(node.value, ast.Name):
            target = self.imports[module.name].get(node.value.id)
            if target in self.modules:
                return self._named(f"{target}.{node.attr}", seen)
        return set(self.methods.get(node.attr, ()))

    def _resolve(self, local: str, module: Module, name: str, seen: set[str]) -> set[str]:
        imported = self.imports[module.name].get(name)
        return self._named(imported or local, seen)

    def _named(self, name: str, seen: set[str]) -> set[str]:
        """Return the functions that a dotted name stands for."""
        if name in seen:
            return set()
        seen.add(name)
        if name in self.functions:
            return {name}
        if name in self.classes:
            return set(self.classes[name])
        if name in self.constants:
            return self._mentions(self.constants[name], self.home[name], seen)
        holder, _, last = name.rpartition(".")
        again = self.imports.get(holder, {}).get(last)
        return self._named(again, seen) if again else set()


def graph_of(modules: Sequence[Module], package: str) -> Graph:
    """Build the graph of calls of a tree whose package has this name."""
    graph = Graph(modules={module.name for module in modules})
    for module in modules:
        graph.imports[module.name] = dict(_imports(module, package))
        _define(graph, module, module.tree, module.name)
    return graph


def _define(graph: Graph, module: Module, node: ast.AST, prefix: str) -> None:
    """Put what a module, class or function defines into the graph."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            name = f"{prefix}.{child.name}"
            while name in graph.functions:  # A property's setter, an overload.
                name += "'"
            graph.functions[name], graph.home[name], graph.names[child] = child, module, name
            if isinstance(node, ast.ClassDef):
                graph.methods[child.name].append(name)
            _define(graph, module, child, name)
        elif isinstance(child, ast.ClassDef):
            name = f"{prefix}.{child.name}"
            made = {"__init__", "__post_init__", "__new__"}
            inside = [item for item in child.body if isinstance(item, Function)]
            graph.classes[name] = [f"{name}.{item.name}" for item in inside if item.name in made]
            _define(graph, module, child, name)
        elif isinstance(child, ast.Assign | ast.AnnAssign) and node is module.tree:
            targets = child.targets if isinstance(child, ast.Assign) else [child.target]
            for target in targets:
                if isinstance(target, ast.Name) and child.value is not None:
                    name = f"{prefix}.{target.id}"
                    graph.constants[name], graph.home[name] = child.value, module
        else:
            _define(graph, module, child, prefix)


def _imports(module: Module, package: str) -> Iterator[tuple[str, str]]:
    """Yield the names that a module imports from the tree, and what each stands for."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            first, _, rest = node.module.partition(".")
            if first == package:
                for alias in node.names:
                    target = f"{rest}.{alias.name}" if rest else alias.name
                    yield alias.asname or alias.name, target


def reached_share(graph: Graph, *, start: str = START, calls: int = CALLS) -> float:
    """Return the share of functions that one function reaches within some calls.

    Raises:
        SystemExit: there is no such function.
    """
    if start not in graph.functions:
        raise SystemExit(f"the tree holds no function {start}")
    reached = newest = {start}
    for _ in range(calls):
        newest = {called for name in newest for called in graph.calls(name)} - reached
        reached = reached | newest
    return len(reached) / len(graph.functions)


# What a commit touches


def touched(commit: str, root: Path) -> list[str]:
    """Return the source files below a tree that a commit changes, adds or removes."""
    line = ["git", "-C", str(root), "diff-tree", "-r", "--no-commit-id", "--name-only", "--root"]
    done = subprocess.run(
        [*line, "--relative", commit], stdout=subprocess.PIPE, check=False, text=True
    )
    if done.returncode:
        raise SystemExit(done.returncode)  # Git has said why.
    return [name for name in done.stdout.splitlines() if name.endswith(".py")]


def measure(root: Path) -> dict[str, object]:
    """Return the figures of a tree."""
    modules = read_tree(root)
    lines: Counter[str] = Counter()
    for module in modules:
        lines[module.package] += module.lines
    branching = tables_of(modules)
    tables = [table for table in branching if len(table.branches) > 1]
    functions = [node for module in modules for node in functions_of(module.tree)]
    uses = (node for module in modules for node in ast.walk(module.tree))
    return {
        "lines": sum(lines.values()),
        "lines_by_package": dict(sorted(lines.items())),
        "modules": len(modules),
        "modules_over_450": sum(module.lines > LONG_MODULE for module in modules),
        "functions": len(functions),
        "functions_over_60": sum(length(node) > LONG_FUNCTION for node in functions),
        "tables": len(tables),
        "tables_on_specs_alone": sum(table.on_specs for table in tables),
        "tables_by_form": dict(sorted(Counter(table.form for table in tables).items())),
        "single_tests": len(branching) - len(tables),
        "any": sum(isinstance(node, ast.Name) and node.id == "Any" for node in uses),
        "within_4_calls": round(reached_share(graph_of(modules, root.name)), 4),
    }


def show(figures: Mapping[str, object]) -> None:
    """Print figures as a table."""
    width = 24
    for name, value in figures.items():
        if isinstance(value, dict):
            print(f"  {name}")
            for part, count in value.items():
                print(f"    {part:<{width - 2}}{count:>9,}")
        elif isinstance(value, list):
            print(f"  {name:<{width}}{len(value):>9}")
            print(*(f"    {item}" for item in value), sep="\n")
        else:
            print(f"  {name:<{width}}{value:>9,}" if isinstance(value, int | float) else "")


def show_places(root: Path) -> None:
    """Print each table, each long function and module, with its file and line."""
    modules = read_tree(root)
    for table in sorted(tables_of(modules), key=lambda table: len(table.branches) == 1):
        form = table.form if len(table.branches) > 1 else "single"
        place = f"{table.path.relative_to(root)}:{table.line}"
        print(f"  {form:<6} {place:<40} {', '.join(table.branches)}")
    for module in modules:
        if module.lines > LONG_MODULE:
            print(f"  module {module.path.relative_to(root)}: {module.lines} lines")
        for node in functions_of(module.tree):
            if length(node) > LONG_FUNCTION:
                place = f"{module.path.relative_to(root)}:{node.lineno}"
                print(f"  function {place} {node.name}: {length(node)} lines")


def main() -> None:
    """Print one JSON line, and the same as a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tree", type=Path, default=TREE, help="the package's folder")
    parser.add_argument("--commit", help="also the source files that this commit touches")
    parser.add_argument("--verbose", action="store_true", help="list each place with its line")
    arguments = parser.parse_args()
    root = arguments.tree.resolve()
    figures = measure(root)
    if arguments.commit:
        figures["touched"] = touched(arguments.commit, root)
    print(json.dumps({"benchmark": "structure", **figures}))
    show(figures)
    if arguments.verbose:
        show_places(root)


if __name__ == "__main__":
    main()
