"""The commands and their arguments as one table, from which the parser and the docs are made.

Nothing here imports more than argparse, so that `--help` and a misspelt option answer at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from modelwright.errors import RequestError, nearest


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a command."""

    name: str
    """`RECIPE` for a place, `--out` for an option."""
    sentence: str
    takes: Literal["one", "maybe", "any", "several", "repeated", "number", "path", "nothing"] = (
        "one"
    )
    """`maybe` and `any` may be left out, `repeated` may be given several times, `nothing` is a
    switch."""
    value: str = ""
    """What an option's value is called in the help."""
    short: str = ""
    """The short form of an option."""
    choices: tuple[str, ...] = ()
    """The only words that it takes; by default any."""

    @property
    def is_option(self) -> bool:
        """Whether it is named by a word with dashes."""
        return self.name.startswith("--")

    @property
    def shown(self) -> str:
        """How it stands in the line of a command."""
        if self.is_option:
            words = f"{self.name} {self.value}".strip()
            return f"[{words}]…" if self.takes == "repeated" else f"[{words}]"
        return {
            "several": f"{self.name}…",
            "any": f"[{self.name}…]",
            "maybe": f"[{self.name}]",
        }.get(self.takes, self.name)


@dataclass(frozen=True, slots=True)
class Command:
    """One command; the function of the same name in `commands.py` carries it out."""

    name: str
    sentence: str
    arguments: tuple[Argument, ...] = ()
    epilog: str = ""

    @property
    def shown(self) -> str:
        """The line of the command."""
        words = [argument.shown for argument in (*self.arguments, JSON)]
        return " ".join(["modelwright", self.name, *words])


JSON = Argument("--json", "print one line of JSON and nothing else", "nothing")
_SANDBOX = Argument(
    "--sandbox",
    "run the model in a process of its own, with limits on memory and time: for files of unknown "
    "origin",
    "nothing",
)
_TRUST = Argument(
    "--trust",
    "a trust policy: take model files of its signers alone (the file that MODELWRIGHT_TRUST names)",
    "path",
    "FILE",
)
_PASSPHRASE = Argument(
    "--passphrase",
    "where the passphrase of the private key is: env:NAME or file:PATH",
    value="REF",
)
_QUIET = Argument("--quiet", "show no progress", "nothing", short="-q")
_RECIPE = Argument("RECIPE", "the recipe, a YAML file")
_MODEL = Argument("MODEL", "the model file, NAME.mw")
_SET = Argument(
    "--set",
    "set any key of the recipe by its dotted path: --set train.epochs=3",
    "repeated",
    "KEY=VALUE",
)
_SITE = Argument(
    "--site", "a file that says where the run takes place: `resources`, `data.path`", "path", "FILE"
)

_IDENTITY = Argument(
    "--identity",
    "what opens sealed files: a path, env:NAME, plugin:NAME or passphrase:env:NAME (those of the "
    "variable MODELWRIGHT_IDENTITY)",
    "repeated",
    "REF",
)
_ON = Argument(
    "--on",
    "the profile of the machine that will serve, written there by `profile --save`: times count as "
    "on it (short for evaluate.profile)",
    "path",
    "FILE",
)

_KEYS = ("create", "list", "rotate", "revoke")

COMMANDS = {
    command.name: command
    for command in (
        Command(
            "new",
            "Look at your data and write a commented recipe for it.",
            (
                Argument(
                    "DATA", "a folder with a folder of files a class, a table, a file, or `digits`"
                ),
                Argument("--input", "the column of a table that is the input", value="COLUMN"),
                Argument(
                    "--target",
                    "the column that is to be predicted; several of numbers, or of 0 and 1",
                    "repeated",
                    "COLUMN",
                ),
                Argument("--task", "the task, such as text-classification", value="TASK"),
                Argument("--out", "where the recipe goes (recipe.yaml)", value="FILE"),
                _QUIET,
            ),
            "What is taken for what is said; where the data can be read in two ways, both are, "
            "with the option that decides.",
        ),
        Command(
            "check",
            "Audit the data, apply the rules, forecast time, memory and disk; train nothing.",
            (
                _RECIPE,
                Argument(
                    "--findings",
                    "write all findings as CSV, with both samples of each pair",
                    "path",
                    "FILE",
                ),
                _SET,
                _SITE,
                _TRUST,
                _IDENTITY,
                _QUIET,
            ),
            "Exits with 1 when a finding would stop the run.",
        ),
        Command(
            "fetch",
            "Download what a recipe needs from a hub, for a run without a network.",
            (_RECIPE, _SET, _SITE, _QUIET),
            "The files go into the cache (MODELWRIGHT_CACHE), from which `run` takes them. What is "
            "there already isn't downloaded again.",
        ),
        Command(
            "run",
            "Carry out a recipe: from data to one measured model file and its report.",
            (
                _RECIPE,
                _SET,
                _SITE,
                _ON,
                Argument("--out", "the parent of the run's folder (runs)", value="DIR"),
                Argument("--name", "the run's name (the recipe's, without .yaml)", value="NAME"),
                _TRUST,
                _IDENTITY,
                _QUIET,
            ),
            "Exits with 1 when a target is missed. Run again after a stop, it goes on.",
        ),
        Command(
            "compress",
            "Make a finished model smaller and faster, and measure what that changes.",
            (
                _MODEL,
                Argument(
                    "RECIPE",
                    "a recipe whose sections `compress`, `train`, `augment`, `targets`, `evaluate` "
                    "and `resources` are taken (the model's own)",
                    "maybe",
                ),
                Argument("--data", "the data that the model was trained on", value="PATH"),
                _SET,
                _ON,
                Argument("--out", "the parent of the run's folder (runs)", value="DIR"),
                Argument("--name", "the run's name (the model's, with -compressed)", value="NAME"),
                _TRUST,
                _QUIET,
            ),
            "The recipe in the model file says which data it needs. Exits with 1 when a target is "
            "missed.",
        ),
        Command(
            "profile",
            "Measure this machine, so that a model can be chosen for it elsewhere.",
            (
                Argument("--save", "where the profile goes (host.json)", "path", "FILE"),
                Argument(
                    "--threads",
                    "processor threads that a model will have (all cores)",
                    "number",
                    "N",
                ),
                _QUIET,
            ),
            "Run it on the machine that will serve, then choose with `run --on FILE` or `compress "
            "--on FILE`.",
        ),
        Command(
            "predict",
            "Ask a model about images, texts or recordings.",
            (
                _MODEL,
                Argument(
                    "INPUT",
                    "a file, or a text for a model of texts, where one word with `/` or an ending "
                    "such as `.txt` must be a file; `-` reads one from standard input",
                    "several",
                ),
                Argument(
                    "--top",
                    "how many labels or boxes to give, best first (5, in a table 1; of sets of "
                    "labels all)",
                    "number",
                    "K",
                ),
                Argument(
                    "--out",
                    "answer a table row by row, or a folder file by file, into this file: .csv, "
                    ".jsonl or .parquet",
                    "path",
                    "FILE",
                ),
                Argument(
                    "--skip-bad",
                    "with --out: leave out what can't be read, and list it in a file beside",
                    "nothing",
                ),
                Argument(
                    "--column",
                    "with --out: the column of the table that is the input (as in training)",
                    value="COLUMN",
                ),
                Argument(
                    "--encoding",
                    "with --out: the encoding of a text table (found out)",
                    value="NAME",
                ),
                _SANDBOX,
                _TRUST,
                _IDENTITY,
                _QUIET,
            ),
            "Texts and recordings that are longer than the model takes are cut off at the end, as "
            "in training, with a warning; a prompt is cut off at its beginning. A language model "
            "gives a text the same answer each time, whatever the other inputs are. With --out, "
            "memory stays bounded however many rows there are; all columns are kept, and the "
            "answers are added.",
        ),
        Command(
            "serve",
            "Answer requests over HTTP, with access control, until it is stopped.",
            (
                Argument("MODEL", "model files, NAME.mw", "any"),
                Argument("--config", "a file of settings: serve.yaml", "path", "FILE"),
                Argument("--host", "the address to listen at (127.0.0.1)", value="HOST"),
                Argument("--port", "the port (8000)", "number", "PORT"),
                Argument("--workers", "processes of each model (by cores)", "number", "N"),
                Argument("--threads", "processor threads of each process (1)", "number", "N"),
                Argument("--store", "where the keys are: a file or postgresql://…", value="STORE"),
                Argument("--no-auth", "ask for no key, on this machine alone", "nothing"),
                _TRUST,
                Argument(
                    "--write-deployment",
                    "serve nothing, and write the files that run this server elsewhere: an image, "
                    "and for kubernetes and kserve the objects around it",
                    value="docker|kubernetes|kserve",
                    choices=("docker", "kubernetes", "kserve"),
                ),
                Argument("--out", "the folder of these files (MODEL-FORM)", "path", "DIR"),
                _IDENTITY,
            ),
            "A model is served under its run's name, at /v1/models/NAME:predict. Without a key in "
            "the store (`modelwright keys`) it answers everybody on this machine, and nobody else.",
        ),
        Command(
            "evaluate",
            "Measure a model on labelled data, or show what was measured when it was made.",
            (
                _MODEL,
                Argument(
                    "DATA", "a folder with a folder of files a class, a table, or lines", "maybe"
                ),
                _SANDBOX,
                _TRUST,
                _IDENTITY,
                _QUIET,
            ),
        ),
        Command(
            "audit",
            "Measure how well a model stands up to an attack.",
            (
                _MODEL,
                Argument(
                    "--extraction",
                    "how many questions it takes to copy the model by asking it, with and without "
                    "a server's protections",
                    "nothing",
                ),
                Argument(
                    "--data",
                    "samples to ask about, a folder or a table; their labels aren't read (the data "
                    "that the model was made from)",
                    value="PATH",
                ),
                Argument("--top", "how many labels the server tells at most (1)", "number", "K"),
                Argument(
                    "--digits", "to how many digits it rounds probabilities (1)", "number", "N"
                ),
                Argument("--queries", "the most questions (4096)", "number", "N"),
                _TRUST,
                _IDENTITY,
                _QUIET,
            ),
            "Of images, questions beyond the samples are mixed of two. A copy counts once it "
            "agrees with the model on 90 % of samples that were never asked.",
        ),
        Command(
            "verify",
            "Check every byte of a model file, and that it answers as it did when it was made.",
            (
                _MODEL,
                Argument(
                    "--signer",
                    "a public key, or its file: the model must be signed with it, or another that "
                    "is given so",
                    "repeated",
                    "PUBLIC",
                ),
                _TRUST,
                _IDENTITY,
            ),
            "Exits with 0 when it is intact and signed as was asked, with 1 when it isn't.",
        ),
        Command(
            "sign",
            "Sign a model file in place: the model, its evidence, every byte.",
            (
                _MODEL,
                Argument(
                    "--key",
                    "the private key: a file, or env:NAME where a variable holds it",
                    value="REF",
                ),
                _PASSPHRASE,
            ),
            "The model digest and the evidence stay as they are. A signed file takes no new "
            "evidence.",
        ),
        Command(
            "identity",
            "Make a key pair: the private key goes into a file, the public one is printed.",
            (
                Argument("ACTION", "create", choices=("create",)),
                Argument("FILE", "where the private key goes; no file is overwritten"),
                Argument("--signing", "make a signing key, with FILE.pub beside it", "nothing"),
                _PASSPHRASE,
            ),
            "Without --signing it opens what others seal for the public key: `seal --to`.",
        ),
        Command(
            "inspect",
            "Show what a model file holds, or the network of a recipe layer by layer.",
            (
                Argument("FILE", "a model file or a recipe"),
                Argument("--word", "show the words that a model of texts holds nearest", value="W"),
                _SET,
                _IDENTITY,
                _QUIET,
            ),
        ),
        Command(
            "export",
            "Write a model as plain ONNX, for Triton, or one that writes texts for transformers.",
            (
                _MODEL,
                Argument("FOLDER", "a folder that isn't there yet (MODEL-onnx, …)", "maybe"),
                Argument("--to", "onnx, triton or transformers (transformers)", value="FORMAT"),
                _TRUST,
                _IDENTITY,
            ),
            "onnx: a file for each graph with its weights inside, and a README of what it takes "
            "and gives. triton: the same as a model repository of Triton Inference Server's, of a "
            "model with one graph. transformers: our decoder goes into Llama's layout, which vLLM "
            "and llama.cpp take too; what came from such a folder goes back into its own.",
        ),
        Command(
            "keys",
            "Make, list, rotate and revoke the API keys of a server.",
            (
                Argument("ACTION", "create, list, rotate or revoke", choices=_KEYS),
                Argument("PREFIX", "the key that is rotated or revoked, by its prefix", "maybe"),
                Argument(
                    "--role",
                    "create: predictor, explainer (predicts too), monitor (reads metrics) or admin",
                    value="ROLE",
                ),
                Argument(
                    "--model",
                    "create: a model that the key is for, by its name; * is every model and the "
                    "server as a whole",
                    "repeated",
                    "NAME",
                ),
                Argument("--name", "create: who or what the key is for", value="TEXT"),
                Argument(
                    "--expires", "create: how long it is valid: 90d, 12h (ever)", value="TIME"
                ),
                Argument(
                    "--requests-per-minute",
                    "create: how many requests each server process takes of it (any)",
                    "number",
                    "N",
                ),
                Argument(
                    "--daily-cost",
                    "create: what its requests of a day (UTC) may cost over all servers (any)",
                    value="COST",
                ),
                Argument(
                    "--grace",
                    "rotate: how long the old key stays valid beside the new one: 1d (not at all)",
                    value="TIME",
                ),
                Argument(
                    "--store",
                    "where the keys are: a file, sqlite:///PATH or postgresql://… "
                    "(MODELWRIGHT_STORE, else keys.db in the state folder)",
                    value="URL",
                ),
            ),
            "A key is printed once, when it is made; the store only holds its hash. A change takes "
            "effect on servers that run within some seconds.",
        ),
        Command(
            "audit-log",
            "Check a server's audit log for edits, gaps and truncation.",
            (
                Argument("ACTION", "verify", choices=("verify",)),
                Argument("LOG", "the log"),
                Argument("--signer", "the public key that signs it, or its file", value="PUBLIC"),
                Argument(
                    "--checkpoint",
                    "checkpoints that were kept elsewhere: a copy of LOG.checkpoints",
                    "path",
                    "FILE",
                ),
            ),
            "Exits with 0 when it is intact, with 1 when it isn't.",
        ),
        Command(
            "seal",
            "Encrypt a model, a data file or a folder in the age format.",
            (
                Argument("FILE", "a file; or a folder, of which each file is sealed"),
                Argument(
                    "--to",
                    "who may open it: age1…, an SSH public key, or file:PATH of a file with one a "
                    "line",
                    "repeated",
                    "RECIPIENT",
                ),
                Argument(
                    "--passphrase",
                    "in place of recipients: env:NAME, or file:PATH of which the first line counts",
                    value="REF",
                ),
                Argument("--out", "where it goes (FILE.age)", "path", "FILE"),
                _IDENTITY,
            ),
            "FILE stays as it is: remove it yourself. What is sealed already is sealed anew, in "
            "its place, where an identity that opens it is given. Names of files aren't hidden.",
        ),
        Command(
            "open",
            "Decrypt what was sealed: a file, or each file of a folder.",
            (
                Argument("FILE", "the sealed file or folder"),
                _IDENTITY,
                Argument("--out", "where it goes (FILE without .age)", "path", "FILE"),
            ),
            "A sealed model needn't be opened to be used: `predict` and the others take "
            "--identity too.",
        ),
        Command(
            "config",
            "Print a recipe with every default written out and explained.",
            (Argument("RECIPE", "the recipe (the smallest one)", "maybe"), _SET, _SITE),
        ),
        Command(
            "schema", "Print the JSON Schema of a recipe, with which editors complete and check it."
        ),
        Command("version", "Print the version."),
    )
}
EXIT_CODES = """\
Exit codes: 0 done; 1 the work failed, a target was missed, a file isn't intact; 2 what was asked
makes no sense; 130 and 143 stopped by Ctrl-C or SIGTERM."""


class _Parser(argparse.ArgumentParser):
    """Argparse, but errors are ours."""

    def error(self, message: str) -> NoReturn:
        raise RequestError(message, fix=f"See: {self.prog} --help")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; the command's name is in `.command`.

    Raises:
        RequestError: it makes no sense.
        SystemExit: help was asked for, and printed.
    """
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        raise RequestError(f"there is no command `{argv[0]}`", fix=nearest(argv[0], COMMANDS))
    args, unknown = build_parser().parse_known_args(argv)
    if unknown:
        raise _unknown(unknown[0], args.command)
    if args.version:
        args.command = args.command or "version"
    if args.command is None:
        raise RequestError("a command is missing", fix="See: modelwright --help")
    return args


def _unknown(word: str, name: str | None) -> RequestError:
    where = f"modelwright {name}" if name else "modelwright"
    if not word.startswith("-"):
        return RequestError(f"`{word}` is one argument too many", fix=f"See: {where} --help")
    option = word.partition("=")[0]
    arguments = (*COMMANDS[name].arguments, JSON) if name else ()
    options = [item.name for item in arguments if item.is_option]
    return RequestError(
        f"`{where}` has no option `{option}`", fix=nearest(option, [*options, "--help"])
    )


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog="modelwright",
        description="From your data and your limits to one proven model file.",
        epilog=f"modelwright COMMAND --help says more of each.\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    places = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in COMMANDS.values():
        one = places.add_parser(
            command.name,
            help=command.sentence,
            description=command.sentence,
            epilog=command.epilog,
            allow_abbrev=False,
        )
        for argument in (*command.arguments, JSON):
            _add(one, argument)
    return parser


def _add(parser: argparse.ArgumentParser, argument: Argument) -> None:
    sentence = argument.sentence.replace("%", "%%")
    if not argument.is_option:
        count = {"several": "+", "any": "*", "maybe": "?"}.get(argument.takes)
        parser.add_argument(
            argument.name.lower(),
            metavar=argument.name,
            nargs=count,
            choices=argument.choices or None,
            help=sentence,
        )
        return
    names = [name for name in (argument.short, argument.name) if name]
    if argument.takes == "nothing":
        parser.add_argument(*names, action="store_true", help=sentence)
    elif argument.takes == "repeated":
        parser.add_argument(
            *names, metavar=argument.value, action="append", default=[], help=sentence
        )
    else:
        kind = {"number": int, "path": Path}.get(argument.takes, str)
        choices = argument.choices or None
        parser.add_argument(
            *names, metavar=argument.value, type=kind, choices=choices, help=sentence
        )


def command_reference() -> str:
    """Return all commands with their arguments as Markdown."""
    parts = []
    for command in COMMANDS.values():
        rows = [
            f"| `{', '.join(name for name in (item.name, item.short) if name)}` | {item.sentence} |"
            for item in (*command.arguments, JSON)
        ]
        description = " ".join(text for text in (command.sentence, command.epilog) if text)
        head = [f"### {command.name}", "", f"    {command.shown}", "", description, ""]
        parts.append("\n".join([*head, "| argument | meaning |", "| --- | --- |", *rows]))
    return "\n\n".join(parts) + "\n"
