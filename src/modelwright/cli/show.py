"""The results of commands as text for people; nothing here computes a figure."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from modelwright.files import Json
from modelwright.progress import duration, printable

if TYPE_CHECKING:
    from modelwright.evaluation import Verdict
    from modelwright.modelfile import VerifyReport
    from modelwright.pipeline import CheckResult, FetchResult, RunResult
    from modelwright.pipeline.predicting import PredictReport
    from modelwright.planning.host import HostProfile
    from modelwright.scaffold import NewResult
    from modelwright.security.audit_log import AuditReport

REPORT_ONLY = (
    "precision_macro",
    "precision_weighted",
    "recall_weighted",
    "f1_weighted",
    "log_loss",
    "rouge1",
    "rouge2",
    "latency_p50_ms",
    "latency_p99_ms",
    "file_bytes",
    "parameters",
    "multiply_adds",
)
"""Metrics that `run` leaves to the report."""


def profile(measured: HostProfile, path: Path) -> str:
    """Return what `profile` says."""
    lines = [f"{measured.hardware}, {measured.runtime}"]
    lines += [f"  {name:<18}{time:.4g} ms" for name, time in measured.milliseconds.items()]
    lines.append(f"The profile is {path}: choose for this machine with `run --on` it.")
    return "\n".join(lines)


THRESHOLD = "{label} from a probability of {probability:.4g} on"


def run_result(result: RunResult) -> str:
    """Return what `run` says at its end."""
    parts = []
    if result.finished_before:
        parts.append("This run was finished before; this is its result.")
    if result.verdicts:
        parts += [_verdict_sentence(result.verdicts), verdict_table(result.verdicts)]
    shown = {
        name: figure
        for name, figure in result.to_json()["metrics"].items()
        if name not in {*REPORT_ONLY, *(verdict.metric for verdict in result.verdicts)}
    }
    if shown:
        parts.append(metric_table(shown))
    lines = [("model", str(result.model)), ("report", str(result.report))]
    samples = sorted((result.folder / "samples").glob("*.*"))
    if samples:
        words = ("predict", str(result.model), str(samples[0]))
        lines.append(("try it", f"{program()} {shlex.join(words)}"))
    parts.append("\n".join(f"{name:<8}{printable(text)}" for name, text in lines))
    return "\n\n".join(parts)


def _verdict_sentence(verdicts: Sequence[Verdict]) -> str:
    missed = sum(not verdict.passed for verdict in verdicts)
    if not missed:
        return "The target is met." if len(verdicts) == 1 else "Every target is met."
    if missed == len(verdicts):
        return "The target is missed." if missed == 1 else "Every target is missed."
    return f"{missed} of {len(verdicts)} targets {'is' if missed == 1 else 'are'} missed."


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """Return the targets beside what was measured."""
    rows = [("metric", "target", "measured", "95 % interval", "")]
    for verdict in verdicts:
        measured = "–" if verdict.value is None else number(verdict.value)
        why = f": {verdict.why}" if verdict.why else ""
        between = interval(verdict.low, verdict.high)
        rows.append((verdict.metric, verdict.target, measured, between, verdict.outcome + why))
    return table(rows)


def metric_table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """Return figures with their intervals."""
    rows = [("metric", "value", "95 % interval", "n")]
    for name, figure in metrics.items():
        between = interval(figure["low"], figure["high"])
        count = f"{figure['n']:,.0f}" if between else ""
        rows.append((name, number(figure["value"]), between, count))
    return table(rows)


def evaluation(value: Mapping[str, Json]) -> str:
    """Return the figures of `evaluate`, and whether they are of samples that were seen before."""
    figures = metric_table(value["metrics"])
    if value.get("is_test", True):
        return figures
    seen = value["seen"]
    trained = f"{seen['train']:,} of {seen['of']:,} samples were trained on"
    return f"Not a test: {trained}, and {seen['validation']:,} chose the model.\n\n{figures}"


_PROTECTIONS = {
    "none": "none",
    "rounded": "rounded to {digits}",
    "top": "top {top}",
    "both": "both",
}


def extraction(value: Mapping[str, Json]) -> str:
    """Return how well copies agree with a model, by the number of questions and by protection."""
    rows = value["protections"]
    table = [["questions", *(_PROTECTIONS[row["name"]].format(**row) for row in rows)]]
    for points in zip(*(row["agreements"] for row in rows), strict=True):
        shares = [[100 * at[key] for key in ("value", "low", "high")] for at in points]
        cells = [f"{share:.1f} % ({low:.0f} to {high:.0f})" for share, low, high in shares]
        table.append([f"{points[0]['queries']:,}", *cells])
    never = f"not within {value['queries']:,}"
    needed = [f"{row['queries_needed']:,}" if row["queries_needed"] else never for row in rows]
    table.append([f"{100 * value['agreement']:.0f} % at", *needed])
    lines = ["".join(f"{cell:<22}" for cell in row).rstrip() for row in table]
    lines += [
        "",
        f"Agreement with the model on {rows[0]['agreements'][0]['n']:,} samples that were never "
        "asked, with its 95 % interval; always giving one answer agrees on "
        f"{100 * value['chance']:.0f} %.",
    ]
    if value["mixed"]:
        lines.append(f"{value['mixed']:,} of the questions were mixed of two samples.")
    if value["tolerance"] is not None:
        lines.append(
            f"Numbers agree within {value['tolerance']} standard deviations of the model's "
            "answers; a server tells them whole."
        )
    lines.append(
        "This is one attack, with simple copies: whoever has more samples, better ones, or a "
        "better network may need fewer questions."
    )
    return "\n".join(lines)


def predictions(inputs: Sequence[str], answers: Sequence[Sequence[Mapping[str, Json]]]) -> str:
    """Return a line for each input, best answer first; of several labels those predicted."""
    lines = []
    for name, best in zip(inputs, answers, strict=True):
        predicted = [answer for answer in best if answer.get("predicted", True)]
        shown = ", ".join(map(_answer, predicted)) or ("none" if best else "")
        lines.append(f"{printable(name)}: {shown}")
    return "\n".join(lines)


def predict_report(report: PredictReport) -> str:
    """Return what became of a table or a folder."""
    count = f"{report.answered:,} row{'' if report.answered == 1 else 's'}"
    added = ", ".join(report.columns[:4]) + (", …" if len(report.columns) > 4 else "")
    lines = [f"{count} answered in {printable(str(report.out))} ({printable(added)})"]
    num_skipped = report.rows - report.answered
    if num_skipped:
        count = f"{num_skipped:,} row{' was' if num_skipped == 1 else 's were'} skipped"
        lines.append(f"{count}, listed in {printable(str(report.skipped_list))}:")
        lines += [printable(f"  {item.place}: {item.why}") for item in report.skipped]
        if num_skipped > len(report.skipped):
            lines.append(f"  and {num_skipped - len(report.skipped):,} more")
    return "\n".join(lines)


def _answer(answer: Mapping[str, Json]) -> str:
    if "text" in answer:
        return printable(str(answer["text"]))
    if "box" in answer:
        edges = ", ".join(f"{edge:.0f}" for edge in answer["box"])
        return f"{printable(str(answer['label']))} {100 * answer['probability']:.1f} % at {edges}"
    if "probability" in answer:
        return f"{printable(str(answer['label']))} {100 * answer['probability']:.1f} %"
    if set(answer) == {"label", "value"}:
        return f"{printable(str(answer['label']))} {answer['value']:.4g}"
    return ", ".join(f"{key} {printable(str(value))}" for key, value in answer.items())


def neighbours(near: Sequence[tuple[str, float]]) -> str:
    """Return words with their cosines."""
    rows = [(printable(word), f"{cosine:.3f}") for word, cosine in near]
    return table([("word", "cosine"), *rows])


def check_result(result: CheckResult) -> str:
    """Return what `check` found and expects."""
    expected = result.forecast
    lines = [finding_lines(result.to_json()["findings"])]
    time_s = "unknown" if expected.training_s is None else duration(expected.training_s)
    steps = "" if expected.steps is None else f" ({expected.steps:,} steps)"
    lines.append(
        f"Training would take about {time_s}{steps}, {size(expected.memory_bytes)} of memory and "
        f"{size(expected.disk_bytes)} of disk."
    )
    lines += [f"{warning}." for warning in expected.warnings]
    if result.download is not None:
        found = result.download
        amount = f"{size(found.missing_bytes)}, " if found.missing_bytes else ""
        lines.append(
            f"A run downloads {amount}the weights of {found.repo}, commit {found.commit[:7]}, "
            f"first. `{program()} fetch RECIPE` does it beforehand."
        )
    return "\n".join(lines)


def fetch_result(result: FetchResult, recipe: str) -> str:
    """Return which files are in the cache now."""
    if not result.networks:
        return f"{printable(recipe)} needs nothing from a hub."
    parts = []
    for found in result.to_json()["fetched"]:
        rows = [("file", "bytes", "SHA-256", "")]
        rows += [
            (
                file["name"],
                f"{file['size_bytes']:,}",
                file["sha256"],
                "downloaded" if file["downloaded"] else "was here",
            )
            for file in found["files"]
        ]
        asked = "" if found["revision"] == found["commit"] else f" (`{found['revision']}`)"
        parts.append(
            f"{printable(found['repo'])}, commit {found['commit']}{printable(asked)}\n"
            f"{table(rows)}\nin {printable(found['folder'])}"
        )
    return "\n\n".join(parts)


def finding_lines(findings: Sequence[Mapping[str, Json]]) -> str:
    """Return what an audit found, a line each."""
    if not findings:
        return "Nothing was found wrong with the data."
    lines = []
    for finding in findings:
        fix = f" {_sentence(finding['fix'])}" if finding["fix"] else ""
        lines.append(printable(f"{finding['severity']}: {_sentence(finding['message'])}{fix}"))
    return "\n".join(lines)


def new_result(result: NewResult) -> str:
    """Return what `new` found and wrote."""
    seen = [printable(f"{_sentence(note)}") for note in (*result.notes, *result.choices)]
    findings = finding_lines([finding.to_json() for finding in result.findings])
    said = "\n".join([*seen, findings])
    command = result.command.replace("modelwright", program(), 1)
    return f"{said}\n\nwrote   {printable(str(result.path))}\nnext    {command}"


def verify_report(report: VerifyReport) -> str:
    """Return what was verified."""
    signed = "signed, and the signature isn't checked" if report.is_signed else "not signed"
    signed += ", so it could be anyone's"
    if report.signed_by:
        signed = (
            f"signed by {printable(report.signed_by)} on {report.signed_at}, and what was signed "
            f"is this model and its {report.evidence} records of evidence"
        )
    return (
        f"{printable(report.path)} is intact: {report.members} members, "
        f"{report.file_bytes:,} bytes, {report.golden_samples} golden samples answered within "
        f"{report.golden_difference:.1e}. It is {signed}.\nmodel   {report.digest}"
    )


def api_keys(keys: Sequence[Mapping[str, Json]]) -> str:
    """Return a table of API keys, without their secrets."""
    if not keys:
        return "There is no key yet."
    rows = [("prefix", "role", "models", "state", "expires", "a minute", "a day", "name")]
    for key in keys:
        ends = (
            ""
            if key["expires"] is None
            else f"{datetime.fromtimestamp(key['expires'], UTC):%F %H:%M}"
        )
        limits = [str(key[name] or "") for name in ("requests_per_minute", "daily_cost")]
        models = " ".join(key["models"])
        rows.append((key["prefix"], key["role"], models, key["state"], ends, *limits, key["name"]))
    return table(rows)


def audit_report(path: str, report: AuditReport) -> str:
    """Return what `audit-log verify` says."""
    name = printable(path)
    after = report.records - report.signed
    lines = [f"{name} is intact: {report.signed} records under {report.checkpoints} checkpoints"]
    lines[0] += f", and {after} that none covers yet." if after else "."
    if report.findings:
        lines = [f"{name} isn't intact:", *(printable(f"  {text}") for text in report.findings)]
    lines += [f"Line {number} was left half-written by a stop." for number in report.torn]
    return "\n".join(lines)


def description(described: Mapping[str, Json]) -> str:
    """Return what a model file says of itself."""
    labels = [printable(label) for label in described["labels"]]
    shown = ", ".join(labels[:12]) + (f", … ({len(labels):,} in all)" if len(labels) > 12 else "")
    tta, threshold = (described["inference"][key] for key in ("tta", "threshold"))
    rows = [
        ("task", described["task"]),
        ("network", described["architecture"].get("name", "")),
        ("compression", _compression(described["lineage"])),
        ("labels", shown),
        ("input", _input(described["input"])),
        ("augmentation", "" if tta == "none" else f"answers averaged over {tta}"),
        ("threshold", threshold and THRESHOLD.format(**threshold)),
        ("parameters", f"{described['parameters']:,}"),
        ("multiply-adds", f"{described['multiply_adds']:,}"),
        ("model", f"{described['size_bytes']:,} bytes"),
        ("file", f"{described['file_bytes']:,} bytes"),
        ("evidence", f"{described['evidence']:,} records"),
        ("digest", described["digest"]),
        ("signed", _signature(described.get("signature"))),
    ]
    return "\n".join(f"{name:<15}{printable(str(text))}" for name, text in rows if text)


def _compression(lineage: Sequence[Mapping[str, Json]]) -> str:
    """Return the steps that made a model smaller or faster, in order."""
    names = {"prune", "distill", "quantize", "vector-quantize"}
    steps = [step for step in lineage if step.get("step") in names]
    kinds = (step.get("dtype") or step.get("weights") or step.get("kind") or "" for step in steps)
    pairs = zip(steps, kinds, strict=True)
    return ", ".join(f"{step['step']} {kind}".strip() for step, kind in pairs)


def signed(path: str, made: Mapping[str, Json]) -> str:
    """Return what `sign` did."""
    replaced = made["replaced"]
    instead = f", in place of the signature of {replaced}" if replaced else ""
    text = f"{path} is signed with the key {made['key_id']}{instead}."
    return printable(text) + f"\n`{program()} verify MODEL --signer KEY.pub` checks it."


def _signature(said: Mapping[str, Json] | None) -> str:
    if said is None:
        return ""
    if said["key_id"] is None:
        return "not in a form that this version knows"
    return f"with {said['key_id']} on {said['created']}, as it says itself; not verified here"


def _input(declared: Mapping[str, Json]) -> str:
    sizes = [declared.get(key) for key in ("height", "width", "channels")]
    if declared.get("kind") != "image" or not all(isinstance(size, int) for size in sizes):
        return str(declared.get("kind", ""))
    colour = "grey" if declared["channels"] == 1 else "colour"
    return f"{declared['height']} × {declared['width']} pixels, {colour}"


# -- small words -------------------------------------------------------------------------------


def program() -> str:
    """Return how this program was called, so that a line shown to the user works when copied."""
    first = Path(sys.argv[0])
    if first.stem not in ("modelwright", "mw"):
        python = "python" if _is_on_path("python", sys.executable) else sys.executable
        return f"{shlex.quote(python)} -m modelwright"
    if _is_on_path(first.name, first):
        return first.stem
    here = Path.cwd()
    whole = first if first.is_absolute() else here / first
    inside = whole.relative_to(here) if whole.is_relative_to(here) else whole
    return shlex.quote(str(inside))


def _is_on_path(name: str, path: Path | str) -> bool:
    program_path = shutil.which(name)
    return program_path is not None and Path(program_path).absolute() == Path(path).absolute()


_WIDEST = 80
"""The most characters that a column of a table is filled up to."""


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as columns; the first row is the heading."""
    longest = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    widths = [min(width, _WIDEST) for width in longest]  # One long name makes no gap in each row.
    lines = []
    for row in rows:
        cells = [printable(cell).ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def number(value: float) -> str:
    """Return a figure with four digits that count, whole where it is large."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def interval(low: float | None, high: float | None) -> str:
    """Return an interval; nothing for a figure that isn't sampled."""
    if low is None or high is None or low == high:
        return ""
    return f"{number(low)} – {number(high)}"


def size(count: int) -> str:
    """Return a number of bytes as people say it.

    >>> size(3 << 20)
    '3.0 MiB'
    """
    scaled = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if scaled < 1024:
            return f"{count:,} bytes" if unit == "bytes" else f"{scaled:.1f} {unit}"
        scaled /= 1024
    return f"{scaled:.1f} GiB"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else text + "."
