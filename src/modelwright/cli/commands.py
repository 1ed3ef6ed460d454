"""One function a command: call the Python API, and return the answer for scripts and for people.

The API is imported inside each, so that a command loads what it needs and no more.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from modelwright.cli import show
from modelwright.cli.arguments import COMMANDS
from modelwright.errors import (
    DataError,
    ModelFileError,
    RequestError,
    SignatureError,
    nearest,
    require,
)
from modelwright.files import Json
from modelwright.progress import printable, watching
from modelwright.version import __version__

if TYPE_CHECKING:
    from modelwright.security.store import Store

BARE = "version: 1\ndata: {source: digits}\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a command."""

    value: Json
    """What `--json` prints; `None` prints nothing."""
    text: str
    """What is printed for people."""
    exit_code: int = 0


def run(args: Namespace) -> Answer:
    """Carry out a recipe."""
    from modelwright import pipeline
    from modelwright.run import is_main_process

    _check_name(args.name)
    is_main = is_main_process()
    with watching(quiet=args.quiet or not is_main) as observe:
        result = pipeline.run(
            Path(args.recipe),
            out=Path(args.out or "runs"),
            name=args.name,
            overrides=_with_host(args),
            site=args.site,
            observe=observe,
        )
    if not is_main:  # The first process speaks for all that `torchrun` made.
        return Answer(None, "")
    return Answer(result.to_json(), show.run_result(result), 0 if result.passed else 1)


def _check_name(name: str | None) -> None:
    if name is not None and (Path(name).name != name or name in ("", "..")):
        raise RequestError(
            f"a run's name is the name of a folder, without `/`; got `{name}`",
            fix="Say where it goes with --out DIR",
        )


def compress(args: Namespace) -> Answer:
    """Make a finished model smaller and faster."""
    from modelwright import pipeline

    _check_name(args.name)
    with watching(quiet=args.quiet) as observe:
        result = pipeline.compress(
            Path(args.model),
            None if args.recipe is None else Path(args.recipe),
            data=args.data,
            out=Path(args.out or "runs"),
            name=args.name,
            overrides=_with_host(args),
            observe=observe,
        )
    return Answer(result.to_json(), show.run_result(result), 0 if result.passed else 1)


def _with_host(args: Namespace) -> list[str]:
    """Return the overrides, among them the profile that `--on` names."""
    overrides = list(args.set)
    if args.on is not None:
        overrides.append(f"evaluate.profile={json.dumps(str(args.on.absolute()))}")
    return overrides


def profile(args: Namespace) -> Answer:
    """Measure this machine."""
    from modelwright import pipeline

    path = args.save or Path("host.json")
    with watching(quiet=args.quiet) as observe:
        measured = pipeline.profile(path, threads=args.threads, observe=observe)
    return Answer(measured.to_json(), show.profile(measured, path))


def check(args: Namespace) -> Answer:
    """Look before training."""
    from modelwright import pipeline
    from modelwright.data.findings import write_findings

    with watching(quiet=args.quiet) as observe:
        result = pipeline.check(
            Path(args.recipe), overrides=args.set, site=args.site, observe=observe
        )
    if args.findings is not None:
        write_findings(args.findings, result.findings)
    value = result.to_json()
    stops = any(finding["severity"] == "error" for finding in value["findings"])
    return Answer(value, show.check_result(result), int(stops))


def fetch(args: Namespace) -> Answer:
    """Download what a recipe needs from a hub."""
    from modelwright import pipeline

    with watching(quiet=args.quiet) as observe:
        result = pipeline.fetch(
            Path(args.recipe), overrides=args.set, site=args.site, observe=observe
        )
    return Answer(result.to_json(), show.fetch_result(result, args.recipe))


def new(args: Namespace) -> Answer:
    """Write a recipe for some data."""
    from modelwright import pipeline

    with watching(quiet=args.quiet) as observe:
        result = pipeline.new(
            args.data,
            out=Path(args.out or "recipe.yaml"),
            input=args.input,
            target=tuple(args.target),
            task=args.task,
            observe=observe,
        )
    value = {
        "recipe": str(result.path),
        "notes": list(result.notes),
        "choices": list(result.choices),
        "findings": [finding.to_json() for finding in result.findings],
        "command": result.command,
    }
    return Answer(value, show.new_result(result))


def predict(args: Namespace) -> Answer:
    """Ask a model; either every input is answered or none."""
    from modelwright import modelfile
    from modelwright.run import Progress

    if args.out is not None:
        return _predict_file(args)
    for option in ("skip_bad", "column", "encoding"):
        if getattr(args, option):
            raise RequestError(
                f"--{option.replace('_', '-')} goes with --out FILE, which answers a table or a "
                "folder"
            )
    model = modelfile.load(Path(args.model), sandbox=args.sandbox)
    names: list[str] = args.input
    takes_text = model.spec.input.get("kind") in ("text", "prompt", "source", "ngrams")
    inputs = _inputs(names, takes_text=takes_text)
    with watching(quiet=args.quiet) as observe:
        for name in names:
            if takes_text and name.lower().endswith(_TABLE_SUFFIXES):
                note = f"{name}: the whole file is one text here; --out FILE answers row by row"
                observe(Progress("note", 0, 0, note=note))
        answers = model.predict(inputs, top=args.top, observe=observe)
    value = [
        {"input": name, "predictions": best} for name, best in zip(names, answers, strict=True)
    ]
    return Answer(value, show.predictions(names, answers))


def serve(args: Namespace) -> Answer:
    """Serve models until a signal comes, or write what serves them elsewhere."""
    require("fastapi", extra="serve", purpose="`modelwright serve`")
    from modelwright.serving.config import configured
    from modelwright.serving.server import serve as run_server

    changes = {
        "host": args.host,
        "port": args.port,
        "store": args.store,
        "auth": False if args.no_auth else None,
    }
    each = {"workers": args.workers, "threads": args.threads}
    config = configured(args.config, args.model, changes, each)
    if args.write_deployment is not None:
        from modelwright.serving.deployment import write_deployment

        written = [str(path) for path in write_deployment(config, args.write_deployment, args.out)]
        return Answer(written, "\n".join(map(printable, written)))
    if args.out is not None:
        raise RequestError("--out goes with --write-deployment")
    run_server(config, say=lambda line: sys.stderr.write(printable(line) + "\n"))
    return Answer(None, "")


def _predict_file(args: Namespace) -> Answer:
    """Answer a table or a folder into a file."""
    from modelwright import modelfile
    from modelwright.pipeline.predicting import predict_file
    from modelwright.security.sealing import is_sealed_path

    if len(args.input) != 1:
        raise RequestError(
            f"--out takes one table or one folder; got {len(args.input)} inputs",
            fix="Give a folder, or a table that names the files",
        )
    if is_sealed_path(Path(args.input[0])):
        raise RequestError(
            "the data is sealed, and --out writes its rows with their answers unsealed",
            where=args.input[0],
            fix="Open it first: modelwright open, or ask about its files one by one, without --out",
        )
    model = modelfile.load(Path(args.model), sandbox=args.sandbox)
    with watching(quiet=args.quiet) as observe:
        report = predict_file(
            model,
            Path(args.input[0]),
            args.out,
            column=args.column,
            encoding=args.encoding,
            top=args.top,
            skip_bad=args.skip_bad,
            observe=observe,
        )
    return Answer(report.to_json(), show.predict_report(report))


def _inputs(names: Sequence[str], *, takes_text: bool) -> list[Path | BinaryIO | str]:
    """Return the inputs that the arguments name, and refuse wrong ones before any is read.

    For a model of texts, an argument that isn't a file is the text itself, unless it looks like a
    path: a mistyped file name must not be predicted as a text.
    """
    from modelwright.security import sealing

    if names.count("-") > 1:
        raise RequestError("standard input can be read once", fix="Give `-` once")
    for name in names:
        if name and _is(Path.is_dir, name) and not (takes_text and " " in name):
            raise RequestError(
                "this is a folder, and without --out `predict` takes files",
                where=name,
                fix=f"Name the files: {printable(name.rstrip('/'))}/*, or write the answers "
                "to a table with --out answers.csv",
            )
        is_path = takes_text and name != "-" and _looks_like_a_path(name)
        if is_path and _is(Path.exists, name) and not _is(Path.is_file, name):
            raise DataError(
                "this is no plain file, so it isn't read",
                where=name,
                fix=f"Pass it by standard input: `modelwright predict MODEL - < {printable(name)}`",
            )
        if is_path and not _is(Path.exists, name):
            folder = Path(name).parent
            is_folder = _is(Path.is_dir, str(folder))
            beside = [str(path) for path in folder.iterdir()] if is_folder else []
            raise DataError(
                "there is no such file",
                where=name,
                why=nearest(name, beside) if beside else "",
                fix="If this is the text itself, pass it by standard input: "
                "`echo TEXT | modelwright predict MODEL -`",
            )
    inputs: list[Path | BinaryIO | str] = []
    for name in names:
        if name == "-":
            inputs.append(sys.stdin.buffer)
        elif _is(Path.is_file, name) and sealing.is_sealed_path(Path(name)):
            inputs.append(io.BytesIO(sealing.opened_file(Path(name))))
        else:
            is_text = takes_text and not _is(Path.is_file, name)
            inputs.append(name if is_text else Path(name))
    return inputs


_TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")
_SUFFIXES = (
    *_TABLE_SUFFIXES,
    *(".txt", ".md", ".json", ".parquet", ".gz", ".html", ".xml", ".pdf"),
    *(".png", ".jpg", ".jpeg", ".gif", ".webp", ".wav", ".flac", ".ogg", ".mp3", ".mw", ".yaml"),
)
"""Endings by which an argument is taken for a file name."""


_MOST_NAME_BYTES = 255
"""The longest name of a file; a text in a script without blanks is soon longer."""


def _looks_like_a_path(name: str) -> bool:
    """Say whether a word is more likely the path of a file than a text; an address is a text."""
    if not name or any(char.isspace() for char in name) or "://" in name:
        return False
    if any(len(os.fsencode(part)) > _MOST_NAME_BYTES for part in name.split("/")):
        return False
    return "/" in name or os.sep in name or name.lower().endswith(_SUFFIXES)


def _is(kind: Callable[[Path], bool], name: str) -> bool:
    """Say whether a name is one of a file or folder; a long text can't be one."""
    try:
        return kind(Path(name))
    except (OSError, ValueError):
        return False


def evaluate(args: Namespace) -> Answer:
    """Measure a model file."""
    from modelwright import pipeline

    with watching(quiet=args.quiet) as observe:
        value = pipeline.evaluate(
            Path(args.model), args.data, sandbox=args.sandbox, observe=observe
        )
    return Answer(value, show.evaluation(value))


def audit(args: Namespace) -> Answer:
    """Measure how well a model stands up to an attack."""
    if not args.extraction:
        raise RequestError("`audit` needs --extraction, the attack that it measures")
    from modelwright import pipeline

    given = {key: getattr(args, key) for key in ("digits", "top", "queries")}
    settings = {key: value for key, value in given.items() if value is not None}
    with watching(quiet=args.quiet) as observe:
        value = pipeline.audit_extraction(args.model, args.data, observe=observe, **settings)
    return Answer(value, show.extraction(value))


def verify(args: Namespace) -> Answer:
    """Check every byte of a model file, and whose it is."""
    from modelwright import modelfile

    trust = None
    if args.signer:
        from modelwright.security.trust import trust_keys

        if args.trust is not None:
            raise RequestError("--signer and --trust both say who is trusted", fix="Give one")
        trust = trust_keys(args.signer)
    try:
        report = modelfile.verify(Path(args.model), trust=trust)
    except SignatureError as error:
        text = printable(f"{args.model} isn't trusted. {error}")
        return Answer({"intact": None, "trusted": False, "why": str(error)}, text, 1)
    except ModelFileError as error:
        text = printable(f"{args.model} isn't intact. {error}")
        return Answer({"intact": False, "why": str(error)}, text, 1)
    return Answer({"intact": True, **report.to_json()}, show.verify_report(report))


def sign(args: Namespace) -> Answer:
    """Sign a model file."""
    from modelwright import modelfile
    from modelwright.security.signing_keys import read_private_key

    if args.key is None:
        raise RequestError(
            "--key is missing", fix="Make one: modelwright identity create --signing KEY"
        )
    key = read_private_key(args.key, passphrase=_passphrase(args))
    signed = modelfile.sign(Path(args.model), key)
    return Answer({**signed, "public": key.public.line}, show.signed(args.model, signed))


def identity(args: Namespace) -> Answer:
    """Make a key pair."""
    path = Path(args.file)
    if not args.signing:
        from modelwright.security.sealing import create_identity_file

        if args.passphrase is not None:
            raise RequestError("--passphrase goes with --signing", where="--passphrase")
        recipient = create_identity_file(path)
        return Answer({"identity": args.file, "recipient": recipient}, recipient)
    from modelwright.security.signing_keys import create_key

    public = create_key(path, passphrase=_passphrase(args))
    value = {"private": args.file, "public": public.line, "key_id": public.id}
    return Answer(value, public.line)


def _passphrase(args: Namespace) -> bytes | None:
    """Return the passphrase that `--passphrase` refers to; it never stands on the command line."""
    if args.passphrase is None:
        return None
    from modelwright.security.signing_keys import secret

    if not args.passphrase.startswith(("env:", "file:")):
        raise RequestError(
            "a passphrase on the command line can be read by others",
            where="--passphrase",
            fix="Give env:NAME of a variable, or file:PATH of a file that holds it",
        )
    return secret(args.passphrase).rstrip(b"\r\n")


def inspect(args: Namespace) -> Answer:
    """Show a model file, or the layers of a recipe's network."""
    path = Path(args.file)
    if not _is_recipe(path):
        from modelwright import modelfile

        if args.set:
            raise RequestError("--set changes a recipe, and this is a model file", where=str(path))
        if args.word is not None:
            near = modelfile.neighbours(path, args.word)
            neighbours = [{"word": word, "cosine": round(cosine, 6)} for word, cosine in near]
            return Answer(neighbours, show.neighbours(near))
        value = modelfile.describe(path)
        return Answer(value, show.description(value))
    from modelwright import pipeline

    if args.word is not None:
        raise RequestError("--word asks a model file, and this is a recipe", where=str(path))
    with watching(quiet=args.quiet) as observe:
        summary = pipeline.layers(path, overrides=args.set, observe=observe)
    return Answer(summary.to_json(), summary.to_text())


def _is_recipe(path: Path) -> bool:
    """Say whether a file is a recipe: by its name, else by its first bytes."""
    if path.suffix in (".yaml", ".yml"):
        return True
    if path.suffix == ".mw" or not path.is_file():
        return False
    from modelwright.security.age import HEAD, is_sealed

    with path.open("rb") as stream:
        head = stream.read(HEAD)
    return head[:2] != b"PK" and not is_sealed(head)


def export(args: Namespace) -> Answer:
    """Write a model in the form of other programs."""
    from modelwright import modelfile

    formats = {
        "onnx": modelfile.export_onnx,
        "transformers": modelfile.export_llama,
        "triton": modelfile.export_triton,
    }
    form = args.to or "transformers"
    if form not in formats:
        raise RequestError(f"there is no format `{form}`", where="--to", fix=nearest(form, formats))
    model = Path(args.model)
    folder = args.folder or model.with_name(f"{model.stem}-{form}")
    written = formats[form](model, Path(folder))
    return Answer([str(path) for path in written], "\n".join(str(path) for path in written))


def keys(args: Namespace) -> Answer:
    """Make, list, rotate or revoke API keys."""
    from modelwright.security.store import Store

    if (args.prefix is None) == (args.action in ("rotate", "revoke")):
        wants = "needs" if args.prefix is None else "takes no"
        raise RequestError(f"`keys {args.action}` {wants} PREFIX", fix=_LIST_KEYS)
    of_create = ("role", "model", "name", "expires", "requests_per_minute", "daily_cost")
    for action, options in (("create", of_create), ("rotate", ("grace",))):
        given = [name for name in options if getattr(args, name)]
        if given and args.action != action:
            option = f"--{given[0].replace('_', '-')}"
            raise RequestError(f"{option} goes with `keys {action}`, not with `{args.action}`")
    steps = {"create": _create_key, "rotate": _rotate_key, "revoke": _revoke_key}
    with contextlib.closing(Store(args.store)) as store:
        return steps.get(args.action, _list_keys)(store, args)


_LIST_KEYS = "`modelwright keys list` shows the keys and their prefixes"


def _create_key(store: Store, args: Namespace) -> Answer:
    from modelwright.security import api_keys
    from modelwright.security.roles import ROLES, grant_of

    if args.role is None or not args.model:
        fix = f"--role is one of {', '.join(ROLES)}; --model '*' is every model"
        raise RequestError("`keys create` needs --role ROLE and --model NAME", fix=fix)
    cost = None if args.daily_cost is None else _number(args.daily_cost, "--daily-cost")
    now = time.time()
    key, stored = api_keys.create(
        store,
        grant_of(args.role, args.model),
        now=now,
        name=args.name or "",
        expires_s=_seconds(args.expires, "--expires"),
        requests_per_minute=args.requests_per_minute,
        daily_cost=cost,
    )
    return Answer({"key": key, **api_keys.to_json(stored, now)}, key)


def _list_keys(store: Store, args: Namespace) -> Answer:
    from modelwright.security import api_keys

    now = time.time()
    found = [api_keys.to_json(key, now) for key in store.all_keys()]
    return Answer(found, show.api_keys(found))


def _rotate_key(store: Store, args: Namespace) -> Answer:
    from modelwright.security import api_keys

    now = time.time()
    grace = _seconds(args.grace, "--grace") or 0.0
    key, stored = api_keys.rotate(store, args.prefix, now=now, grace_s=grace)
    return Answer({"key": key, **api_keys.to_json(stored, now)}, key)


def _revoke_key(store: Store, args: Namespace) -> Answer:
    store.revoke(args.prefix, now=time.time())
    return Answer({"revoked": args.prefix}, f"{args.prefix} is revoked.")


def _seconds(text: str | None, option: str) -> float | None:
    from modelwright.recipe.spec import seconds

    try:
        return None if text is None else seconds(text)
    except ValueError as error:
        raise RequestError(str(error), where=option) from error


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise RequestError(f"`{text}` is no number", where=option) from error


def audit_log(args: Namespace) -> Answer:
    """Check an audit log."""
    require("cryptography", extra="serve", purpose="the audit log")
    from modelwright.security.audit_log import verify as verify_log

    if args.signer is None:
        raise RequestError("`audit-log verify` needs --signer PUBLIC, the key that signs the log")
    report = verify_log(Path(args.log), args.signer, args.checkpoint)
    value = {"intact": report.is_intact, **asdict(report)}
    return Answer(value, show.audit_report(args.log, report), 0 if report.is_intact else 1)


def seal(args: Namespace) -> Answer:
    """Encrypt a file or a folder."""
    from modelwright.security import sealing

    written = sealing.seal_path(
        Path(args.file),
        sealing.read_recipients(args.to),
        passphrase=sealing.read_passphrase(args.passphrase) if args.passphrase else "",
        identities=sealing.read_identities(),
        out=args.out,
    )
    return Answer({"sealed": str(written)}, str(written))


def open(args: Namespace) -> Answer:
    """Decrypt a file or a folder."""
    from modelwright.security import sealing

    written = sealing.open_path(Path(args.file), sealing.read_identities(), out=args.out)
    return Answer({"opened": str(written)}, str(written))


def config(args: Namespace) -> Answer:
    """Print a recipe with every default."""
    from modelwright.recipe import check_composition, load_recipe, parse_recipe, render_config

    if args.recipe is None:
        recipe = parse_recipe(BARE, where="recipe", overrides=args.set, site=args.site)
    else:
        recipe = load_recipe(args.recipe, overrides=args.set, site=args.site)
    check_composition(recipe)
    return Answer(recipe.document(), render_config(recipe).rstrip("\n"))


def schema(args: Namespace) -> Answer:
    """Print the JSON Schema, or the reference, of a recipe."""
    import json

    from modelwright.recipe import json_schema

    value = json_schema()
    return Answer(value, json.dumps(value, indent=2, ensure_ascii=False))


def version(args: Namespace) -> Answer:
    """Print the version."""
    return Answer({"version": __version__}, f"modelwright {__version__}")


CARRY_OUT: dict[str, Callable[[Namespace], Answer]] = {
    name: globals()[name.replace("-", "_")] for name in COMMANDS
}
"""The function of each command."""
