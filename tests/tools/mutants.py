"""How many small faults in the code the tests notice: mutation testing by the standard library.

A mutant is the source with one small change: another operator, a constant one higher, a condition
negated, a statement removed. It is killed if a test fails, and survives otherwise. The share of
sampled mutants that are killed measures the tests; a survivor is a missing test, or a change
without a consequence (`survivors.md` lists them).

    python tests/tools/mutants.py map --work ../mutants             # which test executes which line
    python tests/tools/mutants.py run --work ../mutants --sample 400
    python tests/tools/mutants.py show --work ../mutants            # the survivors, as differences
    python tests/tools/mutants.py rerun --work ../mutants           # survivors, by the tests of now
    python tests/tools/mutants.py verify --work ../mutants          # killers pass without a mutant

What is mutated (`SCOPE`): training, metrics, evaluation and tasks; of the data package, splits,
sampling and augmentation; of the model file, all that reads. A place is drawn uniformly, then one
of its changes. Left out:

- annotations, docstrings, imports, decorators, `if TYPE_CHECKING`, `assert`, `zip(strict=…)`
  (they state what can't happen), and `encoding=`;
- texts, and all that is inside of an f-string, of the arguments of a raised error, of a call that
  only reports progress (`observe`, `Progress`), of `__repr__` and of `__str__`;
- constants that only bound memory or time, by name: `BOUNDS`. The lines that use them stay in.

Tests: those that executed the mutated line when they were mapped, those of the folder that mirrors
the package first, each group by what it took; then the other tests of the module that is named
after the mutated one. The first failure ends a mutant, and so does a time limit. Tests
marked slow don't take part, nor does the folder `tests/whole` (complete runs, minutes), but for the
two modules of it that test linear models.

Each mutant is tried in a process that is forked from one that has imported the large libraries,
on a copy of the tree. `run` goes on after a stop: what is done stands in `outcomes.jsonl`.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import contextlib
import difflib
import gc
import importlib
import io
import json
import math
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import tokenize
import traceback
import types
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "src/modelwright"
COPIED = ("src", "tests", "docs", "examples", "benchmarks")

SCOPE = (
    "training",
    "metrics",
    "evaluation",
    "tasks",
    "modelfile",
    "data/splits.py",
    "data/sampler.py",
    "data/augment.py",
    "data/augment_boxes.py",
    "data/counter_rng.py",
)
WRITING = {"export.py", "packing.py", "onnx_folder.py", "torch_runtime.py", "step_graphs.py"}
BOUNDS = re.compile(
    r"_?(\w+_AT_ONCE|MOST_\w+|\w*CHUNK\w*|\w+_BYTES|BATCH(_SIZE)?|_SLICE|_LARGE_SLICE|_VALUES|_DRAWS"
    r"|_VALUES_DRAWN|_WEIGHTS|\w*MEMORY|_WAIT_S|_PROGRESS_S|_LARGEST|SECONDS|_ITERATIONS|_STEPS)"
)
SILENT_CALLS = {"observe", "Progress"}
LIBRARIES = [
    "numpy",
    "torch",
    "torch.nn.functional",
    "torch.export",
    "torch.onnx",
    "torch.optim",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "pytest",
    "PIL.Image",
    "pyarrow.parquet",
    "pyarrow.csv",
    "pydantic",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.feature_extraction.text",
    "tokenizers",
    "soundfile",
    "soxr",
    "sacrebleu",
    "ruamel.yaml",
    "rich.console",
    "jinja2",
    "safetensors.torch",
    "scipy.optimize",
    "scipy.stats",
    "pandas",
]
"""What a process imports before others are forked from it."""
NAMES = {
    "min": "max", "max": "min", "any": "all", "all": "any", "minimum": "maximum",
    "maximum": "minimum", "argmin": "argmax", "argmax": "argmin", "floor": "ceil", "ceil": "floor",
    "zeros": "ones", "ones": "zeros", "amin": "amax", "amax": "amin",
}  # fmt: skip
COMPARISONS: dict[type[ast.cmpop], tuple[str, tuple[str, ...]]] = {
    ast.Lt: ("<", ("<=", ">")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: (r"is\s+not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: (r"not\s+in", ("in",)),
}
ARITHMETIC: dict[type[ast.operator], tuple[str, tuple[str, ...]]] = {
    ast.Add: ("+", ("-",)),
    ast.Sub: ("-", ("+",)),
    ast.Mult: ("*", ("/",)),
    ast.Div: ("/", ("*",)),
    ast.FloorDiv: ("//", ("*",)),
    ast.Mod: ("%", ("*",)),
    ast.Pow: ("**", ("*",)),
    ast.LShift: ("<<", (">>",)),
    ast.RShift: (">>", ("<<",)),
    ast.BitAnd: ("&", ("|",)),
    ast.BitOr: ("|", ("&",)),
    ast.BitXor: ("^", ("&",)),
}


@dataclass(frozen=True)
class Place:
    """A place in a file that can be changed, as character offsets, and what may stand there."""

    file: str
    line: int
    start: int
    end: int
    kind: str
    changes: tuple[str, ...]


class Places(ast.NodeVisitor):
    """All places of a module, in the order of its text."""

    def __init__(self, file: str, text: str) -> None:
        self.file, self.text = file, text
        self.found: list[Place] = []
        lines = text.splitlines(keepends=True)
        self.starts = [0]
        for line in lines:
            self.starts.append(self.starts[-1] + len(line))
        self.lines = lines
        self.tokens: list[tuple[int, int, str]] = []
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in (tokenize.OP, tokenize.NAME):
                start = self.starts[token.start[0] - 1] + token.start[1]
                self.tokens.append((start, start + len(token.string), token.string))

    def visited(self) -> list[Place]:
        self.visit(ast.parse(self.text))
        return self.found

    def at(self, line: int, column: int) -> int:
        """Return the offset of a position of `ast`, which counts bytes of UTF-8."""
        return self.starts[line - 1] + len(self.lines[line - 1].encode()[:column].decode())

    def span(self, node: ast.AST) -> tuple[int, int]:
        return self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset)

    def add(self, node: ast.AST, span: tuple[int, int], kind: str, *changes: str) -> None:
        self.found.append(Place(self.file, node.lineno, *span, kind, changes))

    def between(self, left: ast.AST, right: ast.AST, words: str) -> tuple[int, int]:
        """Return where the operator stands between two expressions; brackets may stand there."""
        start, end = self.span(left)[1], self.span(right)[0]
        inside = [t for t in self.tokens if start <= t[0] and t[1] <= end and t[2] not in "()"]
        wanted = words.split()
        assert [t[2] for t in inside] == wanted, (self.file, left.lineno, inside, wanted)
        return inside[0][0], inside[-1][1]

    # What is left out.

    def visit_Assert(self, node: ast.Assert) -> None: ...
    def visit_Import(self, node: ast.Import) -> None: ...
    def visit_ImportFrom(self, node: ast.ImportFrom) -> None: ...
    def visit_JoinedStr(self, node: ast.JoinedStr) -> None: ...

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name not in ("__repr__", "__str__"):
            for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
                self.visit(default)
            self.body(node.body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.body(node.body)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value and not self.is_bound(node.target):
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if not any(self.is_bound(target) for target in node.targets):
            self.generic_visit(node)

    def is_bound(self, target: ast.expr) -> bool:
        names = [n.id for n in ast.walk(target) if isinstance(n, ast.Name)]
        return any(BOUNDS.fullmatch(name) for name in names)

    def visit_Module(self, node: ast.Module) -> None:
        self.body(node.body)

    # Statements.

    def body(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if not text:
                self.removal(statement)
                self.visit(statement)

    def generic_visit(self, node: ast.AST) -> None:
        for _, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                self.body(value)
            elif isinstance(value, list):
                for item in value:
                    if isinstance(item, ast.AST):
                        self.visit(item)
            elif isinstance(value, ast.AST):
                self.visit(value)

    def removal(self, node: ast.stmt) -> None:
        match node:
            case ast.Expr(value=ast.Call() as call) if not is_silent(call):
                self.add(node, self.span(node), "statement removed", "pass")
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]) | ast.AugAssign():
                self.add(node, self.span(node), "statement removed", "pass")
            case ast.Raise() | ast.Delete():
                self.add(node, self.span(node), "statement removed", "pass")
            case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
                self.add(node, self.span(node), "returns nothing", "return None")
            case ast.Break():
                self.add(node, self.span(node), "loop", "continue")
            case ast.Continue():
                self.add(node, self.span(node), "loop", "break")
            case _:
                return

    def visit_Raise(self, node: ast.Raise) -> None: ...

    def visit_Expr(self, node: ast.Expr) -> None:
        if not (isinstance(node.value, ast.Call) and is_silent(node.value)):
            self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self.condition(node)

    def visit_While(self, node: ast.While) -> None:
        self.condition(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.condition(node)

    def condition(self, node: ast.If | ast.While | ast.IfExp) -> None:
        start, end = self.span(node.test)
        self.add(node.test, (start, end), "negated", f"(not ({self.text[start:end]}))")
        self.generic_visit(node)

    # Expressions.

    def visit_Compare(self, node: ast.Compare) -> None:
        left = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            name, changes = COMPARISONS[type(operator)]
            span = self.between(left, right, name.replace(r"\s+", " "))
            self.add(left, span, "comparison", *changes)
            left = right
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        texts = any(is_text(side) for side in ast.walk(node) if isinstance(side, ast.expr))
        types = any(is_none(side) for side in (node.left, node.right))
        if type(node.op) in ARITHMETIC and not texts and not types:
            name, changes = ARITHMETIC[type(node.op)]
            self.add(node, self.between(node.left, node.right, name), "arithmetic", *changes)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if type(node.op) in ARITHMETIC and not is_text(node.value):
            name, changes = ARITHMETIC[type(node.op)]
            span = self.between(node.target, node.value, f"{name}=")
            self.add(node, span, "arithmetic", *(f"{change}=" for change in changes))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        now, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.add(left, self.between(left, right, now), "and/or", other)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not | ast.USub | ast.Invert):
            start, end = self.span(node)
            inner = self.text[slice(*self.span(node.operand))]
            self.add(node, (start, end), "sign or not dropped", f"({inner})")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self.add(node, self.span(node), "constant", str(not value))
        elif isinstance(value, int):
            self.add(node, self.span(node), "constant", f"({value} + 1)", f"({value} - 1)")
        elif isinstance(value, float):
            changes = (f"({value!r} + 1)", f"({value!r} - 1)") if value else ("1.0",)
            self.add(node, self.span(node), "constant", *changes)

    def visit_Call(self, node: ast.Call) -> None:
        if is_silent(node):
            return
        for keyword in node.keywords:
            if keyword.arg in (None, "encoding", "strict"):
                continue
            start, end = self.span(keyword)
            after = re.compile(r"\s*,").match(self.text, end)
            alone = len(node.keywords) == 1 and not node.args
            before = re.compile(r",\s*$").search(self.text[:start])
            if after:
                self.add(keyword, (start, after.end()), "argument removed", "")
            elif alone:
                self.add(keyword, (start, end), "argument removed", "")
            elif before:
                self.add(keyword, (before.start(), end), "argument removed", "")
        self.visit(node.func)
        for argument in node.args:
            self.visit(argument)
        for keyword in node.keywords:
            if keyword.arg not in ("encoding", "strict"):
                self.visit(keyword.value)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in NAMES and isinstance(node.ctx, ast.Load):
            self.add(node, self.span(node), "name swapped", NAMES[node.id])

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in NAMES:
            _, end = self.span(node)
            self.add(node, (end - len(node.attr), end), "name swapped", NAMES[node.attr])
        self.visit(node.value)


def is_silent(call: ast.Call) -> bool:
    """Return whether a call only reports progress."""
    name = call.func
    return getattr(name, "attr", getattr(name, "id", "")) in SILENT_CALLS


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    )


def is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def files_of(root: Path) -> list[str]:
    """Return the files that are mutated, below the root."""
    found: list[Path] = []
    for name in SCOPE:
        path = root / PACKAGE / name
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return [str(p.relative_to(root)) for p in found if p.name not in WRITING]


def places_of(root: Path) -> list[Place]:
    found: list[Place] = []
    for file in files_of(root):
        found += Places(file, (root / file).read_text()).visited()
    return found


@dataclass(frozen=True)
class Mutant:
    """One change of one place, with its line for those who read it."""

    number: int
    file: str
    line: int
    start: int
    end: int
    kind: str
    before: str
    after: str

    def applied(self, text: str) -> str:
        assert text[self.start : self.end] == self.before, f"{self.file} has changed: {self}"
        return text[: self.start] + self.after + text[self.end :]


def sampled(root: Path, size: int, seed: int) -> list[Mutant]:
    """Draw places without replacement, and one change of each that is still Python."""
    places = places_of(root)
    draw = random.Random(seed)
    draw.shuffle(places)
    mutants: list[Mutant] = []
    for place in places:
        text = (root / place.file).read_text()
        before = text[place.start : place.end]
        mutant = Mutant(
            len(mutants), place.file, place.line, place.start, place.end, place.kind, before,
            draw.choice(place.changes),
        )  # fmt: skip
        try:
            changed = ast.dump(ast.parse(mutant.applied(text))) != ast.dump(ast.parse(text))
        except SyntaxError:
            continue
        if changed:
            mutants.append(mutant)
        if len(mutants) == size:
            break
    return mutants


# Which test executes which line.


class Seen(ast.NodeTransformer):
    """Notes each statement of a function when it is executed."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.inside = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.inside += 1
        self.generic_visit(node)
        self.inside -= 1
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        before, self.inside = self.inside, 0
        self.generic_visit(node)
        self.inside = before
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if not self.inside or isinstance(node, ast.ClassDef):
            return node
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            if isinstance(statements, list) and statements and isinstance(statements[0], ast.stmt):
                setattr(node, name, [new for old in statements for new in self.noted(old)])
        return node

    def noted(self, node: ast.stmt) -> list[ast.stmt]:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return [node]
        first, last = node.lineno, node.end_lineno
        inner = getattr(node, "body", None)
        if isinstance(inner, list) and inner:
            last = max(first, inner[0].lineno - 1)
        call = ast.parse(f"__seen__(({self.file!r}, {first}, {last}))").body[0]
        return [ast.copy_location(ast.fix_missing_locations(call), node), node]


class Recording:
    """A plugin for pytest that keeps, for each test, the statements it executed and its seconds."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.seen: set[tuple[str, int, int]] = set()
        builtins.__seen__ = self.seen.add
        self.shared: dict[str, tuple[set[tuple[str, int, int]], float]] = {}
        self.numbers: dict[tuple[str, int, int], int] = {}

    def pytest_fixture_setup(self, fixturedef: object) -> Iterator[None]:
        """Fixtures that tests share count for each of their tests."""
        before, start = set(self.seen), processor_s()
        self.seen.clear()
        yield
        if fixturedef.scope != "function":
            self.shared[fixturedef.argname] = (set(self.seen), processor_s() - start)
        self.seen |= before

    def pytest_runtest_protocol(self, item: object) -> Iterator[None]:
        self.seen.clear()
        self.failed = False
        start = processor_s()
        yield
        seconds, lines = processor_s() - start, set(self.seen)
        for name in item.fixturenames:
            if name in self.shared:
                lines |= self.shared[name][0]
                seconds += self.shared[name][1]
        new = {line: len(self.numbers) + n for n, line in enumerate(lines - set(self.numbers))}
        self.numbers |= new
        record = {
            "test": item.nodeid,
            "seconds": round(seconds, 3),
            "failed": self.failed,
            "new": [(number, *line) for line, number in new.items()],
            "lines": sorted(self.numbers[line] for line in lines),
        }
        with self.out.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def pytest_runtest_logreport(self, report: object) -> None:
        self.failed |= bool(report.failed or report.skipped)


def processor_s() -> float:
    """Return the processor time of this process and of those it started."""
    return sum(os.times()[:4])


def copied(root: Path, to: Path) -> None:
    """Copy the tree, or what has changed in it."""
    for name in COPIED:
        shutil.rmtree(to / name, ignore_errors=True)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / name, to / name, ignore=ignored)
    for path in root.glob("*"):
        if path.is_file():
            shutil.copy(path, to / path.name)
    command = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash"]
    subprocess.run([*command, str(to / "src")], check=True)


def map_tests(work: Path, folders: Sequence[str]) -> None:
    """Run the tests of each folder once, on a tree that notes what is executed."""
    tree = work / "noted"
    tree.mkdir(parents=True, exist_ok=True)
    copied(ROOT, tree)
    for file in files_of(tree):
        path = tree / file
        module = Seen(file).visit(ast.parse(path.read_text()))
        path.write_text(ast.unparse(ast.fix_missing_locations(module)))
        # A process that a test starts knows nothing of the notes.
        text = path.read_text()
        guard = "import builtins as _b\nif not hasattr(_b, '__seen__'): _b.__seen__ = id\n"
        future = "from __future__ import annotations\n"
        path.write_text(text.replace(future, future + guard, 1))
        assert guard in path.read_text() or "__seen__" not in text, file
    for folder in folders:
        name = folder.replace("/", "-").replace(" ", "+").replace(".py", "")[:100]
        out = work / "map" / f"{name}.jsonl"
        if out.exists():
            continue
        out.parent.mkdir(exist_ok=True)
        part = out.with_suffix(".part")
        part.unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            enter(tree)
            os._exit(in_pytest([*folder.split(), "-q", *COMMON], [hooked(Recording(part))]))
        os.waitpid(pid, 0)
        part.rename(out)
        sys.stdout.write(f"{folder}: {len(out.read_text().splitlines())} tests\n")


OUR_FAULT = 70
IDLE = 20  # so many times the limit of processor time may pass in all
COMMON = ("-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0")


def hooked(plugin: Recording) -> Recording:
    import pytest

    wrapper = pytest.hookimpl(hookwrapper=True)
    for name in ("pytest_fixture_setup", "pytest_runtest_protocol"):
        setattr(type(plugin), name, wrapper(getattr(type(plugin), name)))
    return plugin


def enter(tree: Path, limit_s: float | None = None) -> None:
    """In a forked process: work in a tree, silently, with what it imports."""
    os.setsid()
    if limit_s is not None:
        # Of processor time, since other work on this machine must not end a mutant.
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit_s), math.ceil(limit_s) + 5))
    os.chdir(tree)
    sys.path[:0] = [str(tree / "src"), str(tree)]
    os.environ["PYTHONPATH"] = str(tree / "src")
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(tree / "hypothesis")
    sys.dont_write_bytecode = True
    shutil.rmtree(tree / "hypothesis", ignore_errors=True)
    log = os.open(tree / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def in_pytest(arguments: list[str], plugins: list[object]) -> int:
    import pytest

    code = pytest.main([*arguments, f"--basetemp={Path.cwd() / 'tmp'}"], plugins=plugins)
    sys.stdout.flush()
    return int(code)


# Trying mutants.


class Tests:
    """What the map says: who executes a line, what a test takes."""

    def __init__(self, work: Path) -> None:
        self.seconds: dict[str, float] = {}
        self.by_line: dict[tuple[str, int], set[str]] = defaultdict(set)
        self.by_file: dict[str, set[str]] = defaultdict(set)
        for path in sorted((work / "map").glob("*.jsonl")):
            spans: dict[int, tuple[str, int, int]] = {}
            for text in path.read_text().splitlines():
                record = json.loads(text)
                spans |= {number: (file, a, b) for number, file, a, b in record["new"]}
                if record["failed"]:
                    continue
                test = record["test"]
                self.seconds[test] = record["seconds"]
                for number in record["lines"]:
                    file, first, last = spans[number]
                    self.by_file[file].add(test)
                    for line in range(first, last + 1):
                        self.by_line[file, line].add(test)

    def of(self, mutant: Mutant, most_s: float) -> list[str]:
        """Return the tests to try, in order."""
        package = mutant.file.removeprefix(PACKAGE + "/").split("/")[0]
        home, stem = f"tests/{package}/", Path(mutant.file).stem
        executing = self.by_line.get((mutant.file, mutant.line), set())
        if not executing and not in_function(mutant):  # Whoever uses the module then executed it.
            executing = self.by_file[mutant.file]
        named = {t for t in self.seconds if t.startswith(home) and f"/test_{stem}.py" in t}

        def rank(test: str) -> tuple[int, float]:
            far = 0 if test in named else 1 if test.startswith(home) else 2
            return (far if test in executing else 3, self.seconds[test])

        chosen, spent = [], 0.0
        for test in sorted(executing | named, key=rank):
            spent += self.seconds[test]
            if spent > most_s and chosen:
                break
            chosen.append(test)
        return chosen


def in_function(mutant: Mutant) -> bool:
    nodes = ast.walk(ast.parse((ROOT / mutant.file).read_text()))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    return any(node.body[0].lineno <= mutant.line <= node.end_lineno for node in functions)


class Only:
    """A plugin that keeps the chosen tests, in their order, and notes the first that fails."""

    def __init__(self, chosen: Sequence[str], result: Path) -> None:
        self.chosen = {test: n for n, test in enumerate(chosen)}
        self.result = result

    def pytest_collection_modifyitems(self, items: list[object]) -> None:
        items[:] = [item for item in items if item.nodeid in self.chosen]
        items.sort(key=lambda item: self.chosen[item.nodeid])

    def pytest_runtest_logreport(self, report: object) -> None:
        if report.failed:
            with self.result.open("a") as file:
                file.write(report.nodeid + "\n")

    def pytest_collectreport(self, report: object) -> None:
        if report.failed:
            with self.result.open("a") as file:
                file.write(f"import of {report.nodeid}\n")


def attempt(tree: Path, chosen: Sequence[str], limit_s: float, *more: str) -> list[str]:
    """Run tests in a forked process; return those that failed, or that the time was over."""
    result = tree / "result.txt"
    result.unlink(missing_ok=True)
    files = list(dict.fromkeys(test.split("::")[0] for test in chosen))
    pid = os.fork()
    if pid == 0:
        code = OUR_FAULT
        try:
            enter(tree, limit_s)
            code = in_pytest([*files, "-q", *COMMON, *more], [Only(chosen, result)])
        except BaseException:  # noqa: BLE001 - a forked process must not return from here
            traceback.print_exc()
        finally:
            os._exit(code)
    return waited(pid, result, tree, limit_s)


def waited(pid: int, result: Path, tree: Path, limit_s: float) -> list[str]:
    """Wait for a forked process; return the tests that failed in it."""
    end = time.monotonic() + IDLE * limit_s
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return ["time limit"]
        time.sleep(0.02)
    failed = result.read_text().split("\n")[:-1] if result.exists() else []
    code = os.waitstatus_to_exitcode(status)
    if code == OUR_FAULT:
        raise SystemExit((tree / "log.txt").read_text())
    if not failed and code in (-signal.SIGXCPU, -signal.SIGKILL):
        return ["time limit"]
    if not failed and code not in (0, 5):
        return [f"exit {code}"]
    return failed


def time_limit(seconds: Iterable[float]) -> float:
    """Return the processor time that tests may take which took so long without a mutant."""
    return 20 + 3 * sum(seconds)


class Quick:
    """A plugin that tries mutants in forks of a process that has collected all tests.

    There the code of the mutated module's functions is exchanged, and nothing is imported again.
    What a test module computed when it was imported stays, so survivors are tried once more by
    `rerun`, in processes that import the mutant.
    """

    def __init__(
        self,
        tree: Path,
        work: Path,
        mutants: Sequence[Mutant],
        wanted: Callable[[Mutant], bool],
        most_s: float,
    ) -> None:
        self.tree, self.work, self.most_s = tree, work, most_s
        self.mutants, self.wanted = mutants, wanted
        self.tests = Tests(work)
        self.functions: dict[str, list[types.FunctionType]] = defaultdict(list)
        self.sound: set[str] = set()
        self.unfit: set[str] = set()

    def pytest_runtestloop(self, session: object) -> bool:
        for function in gc.get_objects():
            if type(function) is types.FunctionType:
                self.functions[function.__code__.co_filename].append(function)
        gc.freeze()  # So that a fork shares its memory for longer.
        items = {item.nodeid: item for item in session.items}
        for mutant in self.mutants:
            if self.wanted(mutant):
                chosen = self.tests.of(mutant, self.most_s)
                if not any(test in items for test in chosen):
                    noted(self.work, mutant, [], 0, 0.0)
                    continue
                self.one(mutant, [items[test] for test in chosen if test in items])
        return True

    def one(self, mutant: Mutant, items: list) -> None:
        """Try a mutant; a test counts only if it passes without the mutant, in the same way."""
        path, start = self.tree / mutant.file, time.monotonic()
        text = path.read_text()
        new = mutant.applied(text)
        while True:
            items = [item for item in items if item.nodeid not in self.unfit]
            path.write_text(new)
            try:
                failed = self.forked(path, text, new, items)
            finally:
                path.write_text(text)
            by = next((item for item in items if failed and item.nodeid == failed[0]), None)
            if by is None or by.nodeid in self.sound:
                break
            if not self.forked(path, text, text, [by]):
                self.sound.add(by.nodeid)
                break
            self.unfit.add(by.nodeid)
            sys.stderr.write(f"{by.nodeid} fails without a mutant\n")
        noted(self.work, mutant, failed, len(items), time.monotonic() - start)

    def forked(self, path: Path, text: str, new: str, items: list) -> list[str]:
        result = self.tree / "result.txt"
        result.unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            self.inside(path, text, new, items, result)
        failed = waited(pid, result, self.tree, self.limit_s(items))
        for left in (self.tree / "tmp").glob("*"):
            shutil.rmtree(left, ignore_errors=True)
        return failed

    def limit_s(self, items: list) -> float:
        return time_limit(self.tests.seconds[item.nodeid] for item in items)

    def inside(self, path: Path, old: str, new: str, items: list, result: Path) -> None:
        """In the fork: exchange the code, run the tests until one fails."""
        code = OUR_FAULT
        try:
            enter(self.tree, self.limit_s(items))
            exchange(self.functions[str(path)], path, old, new)
            for item, after in zip(items, [*items[1:], None], strict=True):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
                if result.exists():
                    break
            code = 0
        except SystemExit:
            code = 1
        except BaseException:  # noqa: BLE001 - a forked process must not return from here
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def pytest_runtest_logreport(self, report: object) -> None:
        if report.failed:
            (self.tree / "result.txt").write_text(report.nodeid + "\n")


def exchange(functions: list[types.FunctionType], path: Path, old: str, new: str) -> None:
    """Give the functions of an imported module the code of a mutant."""
    before, after = (codes_of(compile(text, str(path), "exec")) for text in (old, new))
    names = {(code.co_qualname, code.co_firstlineno, code.co_code): n for n, code in before.items()}
    for function in functions:
        code = function.__code__
        name = names[code.co_qualname, code.co_firstlineno, code.co_code]
        function.__code__ = after.get(name, code)  # None for one inside of a removed statement.


def codes_of(code: types.CodeType) -> dict[tuple[str, int], types.CodeType]:
    """Return the code of each function by its name and its number among those of that name."""
    found: dict[tuple[str, int], types.CodeType] = {}

    def visit(inside: types.CodeType) -> None:
        for constant in inside.co_consts:
            if isinstance(constant, types.CodeType):
                same = sum(name == constant.co_qualname for name, _ in found)
                found[constant.co_qualname, same] = constant
                visit(constant)

    visit(code)
    return found


def noted(work: Path, mutant: Mutant, failed: Sequence[str], tests: int, seconds: float) -> None:
    record = {
        **asdict(mutant),
        "killed_by": failed[0] if failed else None,
        "tests": tests,
        "seconds": round(seconds, 1),
    }
    with (work / "outcomes.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")


def is_taken(work: Path, mutant: Mutant) -> bool:
    """Return whether a mutant is done, or another process tries it; claim it if not."""
    claim = work / "claims" / str(mutant.number)
    return mutant.number in outcomes(work) or claimed(claim)


def try_mutant(tree: Path, work: Path, mutant: Mutant, tests: Tests, most_s: float) -> None:
    chosen = tests.of(mutant, most_s)
    path = tree / mutant.file
    text = path.read_text()
    start = time.monotonic()
    path.write_text(mutant.applied(text))
    # Three steps, each in a process of its own, so that few test modules are imported at first.
    killed: list[str] = []
    steps = [chosen[:12], chosen[12:60], chosen[60:]]
    try:
        for step in filter(None, steps):
            limit_s = time_limit(tests.seconds[test] for test in step)
            killed = attempt(tree, step, limit_s, "-x")
            if killed:
                break
    finally:
        path.write_text(text)
    noted(work, mutant, killed, len(chosen), time.monotonic() - start)


def outcomes(work: Path) -> dict[int, dict]:
    """Return the latest outcome of each mutant."""
    path = work / "outcomes.jsonl"
    if not path.exists():
        return {}
    return {record["number"]: record for record in map(json.loads, path.read_text().splitlines())}


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    z, share = 1.959964, hits / count
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count)


def report(work: Path, seed: int) -> None:
    done = outcomes(work)
    killed = sum(1 for record in done.values() if record["killed_by"])
    equivalent = equivalents(seed)
    low, high = wilson(killed, len(done))
    without = len(done) - sum(1 for n, r in done.items() if not r["killed_by"] and n in equivalent)
    line = {
        "mutants": len(done),
        "killed": killed,
        "share": round(killed / len(done), 4),
        "interval": [round(low, 4), round(high, 4)],
        "without_equivalent": round(killed / without, 4),
        "interval_without": [round(bound, 4) for bound in wilson(killed, without)],
        "packages": {
            name: f"{hits}/{count}"
            for name, (hits, count) in sorted(by_package(done).items())
        },
    }  # fmt: skip
    sys.stdout.write(json.dumps(line) + "\n")


def by_package(done: dict[int, dict]) -> dict[str, tuple[int, int]]:
    count: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for record in done.values():
        name = record["file"].removeprefix(PACKAGE + "/").split("/")[0]
        count[name] += 1
        hits[name] += bool(record["killed_by"])
    return {name: (hits[name], count[name]) for name in count}


def equivalents(seed: int) -> set[int]:
    """Return the numbers of a seed's mutants that `survivors.md` lists as equivalent."""
    text = Path(__file__).with_name("survivors.md").read_text()
    part = text.partition(f"\n## Seed {seed}, equivalent\n")[2].partition("\n## ")[0]
    return {int(number) for number in re.findall(r"^- (\d+):", part, re.MULTILINE)}


def run(work: Path, size: int, seed: int, most_s: float) -> None:
    """Try the mutants that have no outcome."""
    plan = work / "plan.json"
    if not plan.exists():
        plan.write_text(json.dumps([asdict(m) for m in sampled(ROOT, size, seed)]))
    tried(work, lambda mutant: not is_taken(work, mutant), most_s)


def rerun(work: Path, most_s: float, only: Sequence[int]) -> None:
    """Try survivors by the tests of now, or the mutants with these numbers.

    Those that survive once more are tried a third time, by tests that import them.
    """
    for slow in (False, True):
        done = outcomes(work)
        wanted = set(only) or {n for n, record in done.items() if not record["killed_by"]}
        tried(work, lambda mutant, wanted=wanted: mutant.number in wanted, most_s, slow=slow)


def tried(
    work: Path, wanted: Callable[[Mutant], bool], most_s: float, *, slow: bool = False
) -> None:
    """Try mutants: those of functions in the quick way unless all are to be imported."""
    tree = work / f"tree-{os.getpid()}"
    tree.mkdir(parents=True)
    copied(ROOT, tree)
    try:
        mutants = [found for mutant in planned(work) if (found := moved(tree, mutant))]
        quick = [] if slow else [mutant for mutant in mutants if in_function(mutant)]
        others = [mutant for mutant in mutants if mutant not in quick]
        pid = os.fork() if quick else 0
        if quick and pid == 0:
            enter(tree)
            files = sorted({test.split("::")[0] for test in Tests(work).seconds})
            plugin = Quick(tree, work, quick, wanted, most_s)
            os._exit(in_pytest([*files, "-q", "-s", *COMMON], [plugin]))
        if quick and os.waitpid(pid, 0)[1]:
            raise SystemExit((tree / "log.txt").read_text()[-2000:])
        slowly(work, tree, filter(wanted, others), most_s)
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def planned(work: Path) -> list[Mutant]:
    return [Mutant(**fields) for fields in json.loads((work / "plan.json").read_text())]


def slowly(work: Path, tree: Path, mutants: Iterable[Mutant], most_s: float) -> None:
    """Try mutants in processes that import them."""
    for name in LIBRARIES:
        importlib.import_module(name)
    tests = Tests(work)
    for mutant in mutants:
        try_mutant(tree, work, mutant, tests, most_s)


def claimed(path: Path) -> bool:
    """Return whether another process that still runs tries this mutant, and claim it if not."""
    path.parent.mkdir(exist_ok=True)
    if path.exists() and Path(f"/proc/{path.read_text()}").exists():
        return True
    path.write_text(str(os.getpid()))
    return False


def moved(tree: Path, mutant: Mutant) -> Mutant | None:
    """Return a mutant at its place in the tree of now, whose lines may have moved.

    It is the nearest place where the same stands; `None` where there is none any more.
    """
    text = (tree / mutant.file).read_text()
    if text[mutant.start : mutant.end] == mutant.before:
        return mutant
    candidates = [p for p in Places(mutant.file, text).visited() if p.kind == mutant.kind]
    near = [p for p in candidates if text[p.start : p.end] == mutant.before]
    if not near:
        return None
    place = min(near, key=lambda p: abs(p.start - mutant.start))
    fields = asdict(mutant) | {"line": place.line, "start": place.start, "end": place.end}
    return Mutant(**fields)


def show(work: Path) -> None:
    """Print the survivors as differences."""
    for number, record in sorted(outcomes(work).items()):
        if record["killed_by"]:
            continue
        names = Mutant.__dataclass_fields__
        mutant = moved(ROOT, Mutant(**{name: record[name] for name in names}))
        if mutant is None:
            sys.stdout.write(f"{number}: {record['file']}: what it changed is gone\n")
            continue
        text = (ROOT / mutant.file).read_text()
        new = mutant.applied(text)
        lines = difflib.unified_diff(text.splitlines(), new.splitlines(), n=1, lineterm="")
        changed = "\n".join(list(lines)[2:])
        sys.stdout.write(f"{number}: {mutant.file} ({record['tests']} tests)\n{changed}\n")


def verify(work: Path) -> None:
    """Run all tests that killed without a mutant; those that fail then prove nothing."""
    done = outcomes(work)
    killers = {r["killed_by"] for r in done.values() if r["killed_by"]}
    tests = sorted(name for name in killers if "::" in name)
    tree = work / "verified"
    tree.mkdir(exist_ok=True)
    copied(ROOT, tree)
    failed = set(attempt(tree, tests, 3600))
    for record in done.values():
        if record["killed_by"] in failed:
            sys.stdout.write(f"{record['number']}: {record['killed_by']} fails without it\n")
    sys.stdout.write(f"{len(tests)} killers, {len(failed)} fail without a mutant\n")


FOLDERS = [
    *(f"tests/{name}" for name in ("metrics", "tasks", "evaluation", "modelfile", "training")),
    *(f"tests/{name}" for name in ("data", "planning", "recipe", "report", "cli", "scaffold")),
    "tests/initialization",
    "tests/whole/test_linear.py",
    "tests/whole/test_fitted_on_train.py",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=("map", "run", "rerun", "show", "report", "verify"))
    parser.add_argument("--work", type=Path, required=True, help="a folder outside of the tree")
    parser.add_argument("--sample", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0, help="of the sample that is drawn")
    parser.add_argument("--most-seconds", type=float, default=60, help="of tests for one mutant")
    parser.add_argument("--folders", nargs="*", default=FOLDERS, help="what `map` runs, each once")
    parser.add_argument("--only", nargs="*", type=int, default=(), help="numbers of mutants")
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    match options.command:
        case "map":
            map_tests(work, options.folders)
        case "run":
            run(work, options.sample, options.seed, options.most_seconds)
        case "rerun":
            rerun(work, options.most_seconds, options.only)
        case "show":
            show(work)
        case "verify":
            verify(work)
    if options.command in ("run", "rerun", "report"):
        report(work, options.seed)


if __name__ == "__main__":
    main()
