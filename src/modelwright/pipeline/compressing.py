"""Making a trained network smaller and faster, and measuring what that changed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from modelwright import evaluation, modelfile
from modelwright.data import Prepared, prepare
from modelwright.errors import DataError, RecipeError, RequestError
from modelwright.evaluation import Comparison
from modelwright.pipeline.measuring import Measured, questions
from modelwright.pipeline.request import RecipeLike, read_draft
from modelwright.pipeline.stages import compress_stages
from modelwright.recipe import Draft
from modelwright.recipe.preparation import AudioSpec, TextSpec, TransformsSpec
from modelwright.run import Run, RunRequest, has_vnni
from modelwright.tasks import task_of

if TYPE_CHECKING:
    from modelwright.models.candidate import Candidate
    from modelwright.transforms.inputs import Input

TAKEN = ("compress", "train", "augment", "targets", "evaluate", "resources")
"""The sections that `compress` takes of a recipe that is given; all else is the file's own."""
UNCOMPRESSED = "uncompressed.mw"
"""The file of the trained network before `compress`, in the run's folder."""


def check_steps(candidate: Candidate, request: RunRequest) -> None:
    """Refuse, before anything is trained, steps of `compress` that the network can't take.

    Raises:
        RequestError: there is such a step.
    """
    from modelwright.compression import step_of

    if request.recipe.compress and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RequestError(
            "`compress` works in one process, and `torchrun` has started several",
            where="compress",
            fix="Leave the section out, and give the finished file to `modelwright compress`",
        )
    for step in request.recipe.compress:
        step_of(step)[0](candidate, step)


def compressed(
    start: Candidate, request: RunRequest, prepared: Prepared, context: Run
) -> Candidate:
    """Return what the steps of `compress` make of a trained network.

    With `model: auto` a step that the chosen network can't take is left out, and said.

    Raises:
        RequestError: a step can't be done to the network, or costs more than it may.
    """
    from modelwright.compression import step_of

    candidate = start
    for step, (name, stage) in zip(
        request.recipe.compress, compress_stages(request.recipe), strict=True
    ):
        try:
            step_of(step)[0](candidate, step)
        except RequestError as error:
            if request.recipe.model != "auto":
                raise
            context.say(f"The step `{name}` is left out: {error.what}")
            continue
        candidate = stage(candidate, request.recipe, prepared.dataset(), context.stage(name))
    return candidate


def compare_files(
    path: Path,
    parent: Path,
    measured: Measured,
    request: RunRequest,
    prepared: Prepared,
    context: Run,
) -> Comparison:
    """Measure a file beside the one that it was made of, and put the difference in the ledger."""
    own, other = (modelfile.load(each, threads=context.threads) for each in (path, parent))
    samples, place, task = measured.samples, measured.place, task_of(request.recipe)
    fingerprint = prepared.fingerprint(samples.name)
    before = evaluation.measure(
        other, samples, other.scoring, fingerprint=fingerprint, place=place, observe=context.observe
    )
    compared = evaluation.compare(
        measured.measurement, before, samples, task, fingerprint=fingerprint, place=place
    )
    context.ledger.extend(compared.evidence)
    context.ledger.append(evaluation.compare_sizes(own, other))
    if request.recipe.evaluate.latency:
        asked = questions(range(min(evaluation.BATCH, len(samples))), samples, prepared)
        times = evaluation.compare_latency(own, other, asked, place=place, observe=context.observe)
        context.ledger.extend(times)
        for record in times:
            if record.high < 1:
                context.say(
                    f"It is slower than before compression here: `{record.metric}` is "
                    f"{record.value:.2f} ({record.low:.2f} to {record.high:.2f})"
                )
    return compared


def say_integers(path: Path, context: Run) -> None:
    """Say how many layers onnxruntime computes in int8 here, and which it doesn't."""
    layers = modelfile.integer_layers(path)
    if not layers:
        return
    others = [name for name, is_integer in layers.items() if not is_integer]
    note = f"onnxruntime computes {len(layers) - len(others)} of {len(layers)} int8 layers as such"
    if others:
        note += f"; it turns {', '.join(f'`{name}`' for name in others[:4])}" + (
            ", …" if len(others) > 4 else ""
        )
        note += " back into fp32 first, which is slower than int8 and no faster than before"
    if not has_vnni():
        note += "; this processor has no VNNI, so int8 gains less time here than on one that has"
    context.say(note)


def require_smaller(path: Path, parent: Path) -> None:
    """Refuse what compression hasn't made smaller.

    Raises:
        RequestError: the model takes as many bytes as before, or more.
    """
    after, before = (modelfile.describe(each)["size_bytes"] for each in (path, parent))
    if after >= before:
        raise RequestError(
            f"compression makes the model no smaller: {after:,} bytes, {before:,} before",
            where="compress",
            fix=f"Leave the section out; the model before it is {parent}",
        )


def require_same_data(path: Path, prepared: Prepared) -> None:
    """Refuse other data than a model file was trained and measured on.

    Raises:
        DataError: a split has other samples than the file says.
    """
    known = modelfile.data_card(path).get("splits", {})
    for name, split in prepared.record["splits"].items():
        root = known.get(name, {}).get("root") if isinstance(known.get(name), dict) else None
        if root != split["root"]:
            raise DataError(
                f"the {name} split isn't the one that {path.name} was made with",
                where=prepared.source,
                why="Samples that it has trained on might be measured as a test",
                fix="Give the same data, unchanged, with the same settings of `data`",
            )


def compress_request(
    path: Path,
    recipe: RecipeLike | None,
    *,
    data: Path | str | None,
    overrides: Sequence[str],
) -> RunRequest:
    """Return the recipe of a model file, with what is asked for of its compression."""
    text = modelfile.recipe_text(path)
    draft = Draft.from_text(text, where=f"the recipe in {path.name}")
    if recipe is not None:
        asked = read_draft(recipe)
        for section in TAKEN:
            if asked.get(section) is not None:
                draft.put(section, asked.get(section))
    if data is not None:
        draft.put("data.path", str(Path(data).absolute()))
    read = draft.recipe(overrides=overrides)
    if not read.compress:
        raise RequestError(
            "nothing says how to compress it",
            where=str(path),
            fix="Write a recipe with the section `compress`, or give it by "
            "--set 'compress=[{name: quantize, dtype: int8}]'",
        )
    # Files of runs have one name; their folders tell them apart.
    of_run = path.name in ("model.mw", UNCOMPRESSED)
    stem = path.resolve().parent.name if of_run else path.stem
    return RunRequest(read, stem=f"{stem}-compressed")


def start_from(path: Path) -> Candidate:
    """Return the network of a model file, as it was before it was calibrated."""
    from modelwright.modelfile import torch_runtime

    start = torch_runtime.rebuild(path)
    return replace(start, inference=replace(start.inference, temperature=(), threshold=None))


def data_of(request: RunRequest, start: Candidate, context: Run) -> Prepared:
    """Return the data of a model file's recipe, as its network takes it."""
    path = getattr(request.recipe.data, "path", None)
    if path is not None:
        try:
            request.find(path)
        except RecipeError as error:
            error.fix = "Say where the data is: --data PATH"
            raise
    # How samples become inputs stands in the file; the recipe may say `auto`.
    plain = {"transforms": TransformsSpec(), "text": TextSpec(), "audio": AudioSpec()}
    return prepare(
        request.recipe.model_copy(update=plain),
        base=request.data_base,
        like=cast("Input", start.input),
        run_folder=context.folder,
        observe=context.observe,
    )
