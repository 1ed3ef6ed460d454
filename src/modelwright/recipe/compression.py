"""The section `compress`: what makes a trained network smaller and faster, step by step."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from modelwright.kinds import ANY_OUTPUT, VECTOR_OUTPUTS, OutputKind
from modelwright.recipe.networks import (
    AudioCnnModel,
    BowModel,
    CnnModel,
    ConvCtcModel,
    DecoderModel,
    EfficientNetLite0Model,
    MlpModel,
    ResnetModel,
    RnnCtcModel,
    RnnModel,
    Seq2SeqModel,
    SpeednetModel,
    TextCnnModel,
    TransformerModel,
)
from modelwright.recipe.spec import For, FromList, Rare, Spec

_OF_ALL = ("name", "dtype", "weights", "max_drop")
_OF_KIND = {
    "dtype: int8": ("ranges", "samples", "reduce_range", "qat", "epochs"),
    "weights": ("group_size", "samples"),
}
"""The settings of `quantize` that only some of its kinds have."""


class QuantizeStep(Spec):
    """Numbers of fewer bits: of weights and activations (`dtype`), or of weights alone."""

    name: Literal["quantize"]
    dtype: Literal["int8", "float16", "bfloat16"] | None = None
    """`int8`: convolutions and fully connected layers compute in 8-bit integers, with the ranges of
    activations taken from training samples (static). `float16`, `bfloat16`: weights are stored in
    16 bits, and computed with in fp32; the file has half the size, answers come no faster."""
    weights: Literal["int8", "int4"] | None = None
    """What fully connected layers and embeddings are stored in, by groups that share a scale; what
    4 bits lose in one weight, those that aren't rounded yet make up for (Frantar et al. 2023)."""
    ranges: Literal["mse", "percentile", "min-max"] = "mse"
    """Of `dtype: int8`, how the range of each activation is chosen: so that the mean squared error
    of rounding is least, from the 0.01 to the 99.99 percentile, or from the lowest to the highest.
    """
    group_size: Annotated[Literal[16, 32, 64, 128], Rare()] = 32
    """Of `weights`, how many share a scale."""
    samples: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Of `dtype: int8` and `weights`, how many training samples tell what activations are like."""
    max_drop: Annotated[float, Field(ge=0)] = 0.005
    """By how much the main metric may get worse on the validation split: of shares the difference
    (0.005 is half a point), of others as a share of it. Where it would by more, the layers that
    hurt most stay in fp32; those of 16 bits are refused."""
    qat: bool = False
    """Of `dtype: int8`, train on with all rounded as it will be (quantization-aware training),
    before layers are chosen that stay in fp32; where that is worse on validation than rounding
    alone, it is left out."""
    epochs: Annotated[float, Field(gt=0, le=10_000)] | Literal["auto"] = "auto"
    """Of `qat`, passes over the training split, at a tenth of the rate of `train.optimizer`;
    `auto`: a quarter of `train.epochs`, at least 1."""
    reduce_range: Annotated[Literal["auto", True, False], Rare()] = "auto"
    """Of `dtype: int8`, use 7 of the 8 bits of each weight, as processors without VNNI need;
    `auto`: where this one, or that of `evaluate.profile`, has none."""

    @property
    def is_16_bits(self) -> bool:
        """Whether weights are stored in 16 bits, and nothing else changes."""
        return self.dtype in ("float16", "bfloat16")

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if (self.dtype is None) == (self.weights is None):
            raise ValueError("give one of `dtype` and `weights`: `dtype: int8`, or `weights: int4`")
        kind = f"dtype: {self.dtype}" if self.dtype else "weights"
        for name, field in type(self).model_fields.items():
            if name in _OF_ALL or getattr(self, name) == field.default:
                continue
            if name not in _OF_KIND.get(kind, ()):
                raise ValueError(f"`{name}` has no effect with `{kind}`")
        if self.epochs != "auto" and not self.qat:
            raise ValueError("`epochs` has no effect without `qat: true`")
        return self


class PruneStep(Spec):
    """Weights taken away while it trains on: single ones set to zero, or whole channels."""

    name: Literal["prune"]
    kind: Literal["unstructured", "structured"] = "unstructured"
    """`unstructured`: single weights, those of the least magnitude over all layers, become zero.
    The file is smaller, as zeros are stored in less; answers come no faster. `structured`:
    channels, heads of attention and whole layers are taken out, and answers come faster."""
    sparsity: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """Of `unstructured`, the share of the weights of convolutions, fully connected layers and
    embeddings that become zero."""
    multiply_adds: Annotated[float | None, Field(gt=0, lt=1)] = None
    """Of `structured`, the share of the multiply-adds that is left; this or `latency` is given."""
    latency: Annotated[float | None, Field(gt=0, lt=1)] = None
    """Of `structured`, the share of the time of an answer to one sample that is left, as
    onnxruntime takes it on this machine."""
    scores: Literal["taylor", "activations"] = "taylor"
    """Of `structured`, what tells how little a channel matters: how the loss would change without
    it, to the first order (Molchanov et al. 2019), or how small its values are."""
    rounds: Annotated[int, Field(ge=1, le=100)] = 4
    """Of `structured`, how many times a part is taken out and the network trained on; the last time
    as long as all others together."""
    epochs: Annotated[float, Field(gt=0, le=10_000)] | Literal["auto"] = "auto"
    """Passes over the training split while weights are taken away, with the rates of `train`;
    `auto`: half of `train.epochs`."""
    max_drop: Annotated[float, Field(ge=0)] = 0.01
    """By how much the main metric may get worse on the validation split; where it does by more, the
    step is refused."""

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if self.kind == "structured" and (self.multiply_adds is None) == (self.latency is None):
            raise ValueError("give one of `multiply_adds` and `latency`: `multiply_adds: 0.5`")
        of_structured = ("multiply_adds", "latency", "scores", "rounds")
        only = {"unstructured": ("sparsity",), "structured": of_structured}
        other = "unstructured" if self.kind == "structured" else "structured"
        for name in only[other]:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"`{name}` has no effect with `kind: {self.kind}`: it is of `{other}`"
                )
        return self


Student = Annotated[
    MlpModel
    | CnnModel
    | ResnetModel
    | SpeednetModel
    | EfficientNetLite0Model
    | BowModel
    | TextCnnModel
    | RnnModel
    | TransformerModel
    | AudioCnnModel
    | ConvCtcModel
    | RnnCtcModel
    | DecoderModel
    | Seq2SeqModel,
    Field(discriminator="name"),
]
"""A network that is built here and learns step by step."""


def _named(teacher: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
    if teacher is not None and not (teacher and all(teacher)):
        raise ValueError("names no model file; leave it out where the network before teaches")
    return teacher


class DistillStep(Spec):
    """Learning from the answers of a larger network, or of several, beside the labels."""

    name: Literal["distill"]
    teacher: Annotated[str | tuple[str, ...] | None, FromList, AfterValidator(_named)] = None
    """The model file that teaches, or several, whose probabilities are averaged. Left out, it is
    the network before this step; or, where no `student` is named either, the one before the first
    step of `compress`."""
    student: Student | None = None
    """The network that learns, a section like `model`, with weights drawn anew; left out, the
    present network goes on learning."""
    kind: Annotated[
        Literal["soft-labels", "decoupled", "features"],
        For(outputs=(OutputKind.SINGLE_LABEL,), values=("decoupled",)),
        For(outputs=VECTOR_OUTPUTS, values=("features",)),
    ] = "soft-labels"
    """What is learnt of the teacher: its probabilities, softened (Hinton et al. 2015); with the
    target class and the others weighed apart (`decoupled`, Zhao et al. 2022); or also which samples
    of a batch are alike before the last layer (`features`, Tung and Mori 2019)."""
    temperature: Annotated[
        float, Field(gt=0, le=100), For(outputs=ANY_OUTPUT - {OutputKind.REGRESSION})
    ] = 4.0
    """By what logits are divided before they become probabilities: the higher, the more the less
    likely answers count. Numbers have none."""
    weight: Annotated[float, Field(gt=0, le=1)] = 0.9
    """How much of the loss is the teacher's; the rest is that of `train.loss`. At 1 the targets of
    the data don't count."""
    epochs: Annotated[float, Field(gt=0, le=10_000)] | Literal["auto"] = "auto"
    """Passes over the training split (with `data.unlabelled`, over both) with the rates of `train`;
    `auto`: as many as `train.epochs`, or half of them where the present network goes on; so for
    `train.budget`."""
    max_drop: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    """By how much the main metric may get worse on the validation split than that of the network
    before; where it does by more, the step is refused. `auto`: 0.01 where the present network goes
    on, and no bound for a `student`."""

    @property
    def teachers(self) -> tuple[str, ...]:
        """The model files that teach; none where it is a network of this run."""
        if self.teacher is None:
            return ()
        return (self.teacher,) if isinstance(self.teacher, str) else self.teacher


class VectorQuantizeStep(Spec):
    """Weights looked up in codebooks: short blocks of them share a code, and the codebooks train on
    with the network before as their teacher."""

    name: Literal["vector-quantize"]
    ratio: Annotated[float, Field(gt=1, le=100)] = 20.0
    """How many times smaller the weights shall be, all layers together: the blocks are as long as
    that needs, longer in large layers than in small ones."""
    block_size: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = "auto"
    """How many weights share a code, in every layer; `auto`: as `ratio` says."""
    codebook_size: Literal[16, 32, 64, 128, 256] = 256
    """How many entries a codebook has at most: fewer where it would be as large as its layer, and
    with `ratio` where the bytes are better spent on codes."""
    codebooks: Annotated[int, Field(ge=1, le=4), Rare()] = 1
    """How many codebooks a layer has: a block is the sum of an entry of each."""
    permute: Annotated[bool, Rare()] = True
    """Let the input channels of a layer change places in the blocks, where that makes these more
    alike."""
    samples: Annotated[int, Field(ge=1, le=100_000)] = 512
    """How many training samples tell which inputs of a layer are large, where errors weigh more."""
    epochs: Annotated[float, Field(gt=0, le=10_000)] | Literal["auto"] = "auto"
    """Passes over the training split in which codebooks, biases and norms learn; `auto`: half of
    `train.epochs`."""
    lr: Annotated[float, Field(gt=0, le=1), Rare()] = 0.002
    """The peak learning rate of AdamW in these passes."""
    max_drop: Annotated[float, Field(ge=0)] = 0.02
    """By how much the main metric may get worse on the validation split; where it does by more, the
    step is refused."""

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.block_size != "auto" and self.ratio != type(self).model_fields["ratio"].default:
            raise ValueError("`ratio` has no effect with `block_size`: give one of them")
        return self


CompressionStep = Annotated[
    QuantizeStep | PruneStep | DistillStep | VectorQuantizeStep, Field(discriminator="name")
]
