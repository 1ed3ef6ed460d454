"""The section `model`: which network, how large, and from what it starts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from modelwright.kinds import ANY_INPUT, ANY_OUTPUT, VECTOR_OUTPUTS, InputKind, OutputKind
from modelwright.recipe.networks import (
    AudioCnnModel,
    BowModel,
    CnnModel,
    ConvCtcModel,
    DecoderModel,
    DetectorModel,
    Dropout,
    EfficientNetLite0Model,
    MlpModel,
    NetworkSpec,
    ResnetModel,
    RnnCtcModel,
    RnnModel,
    Seq2SeqModel,
    SpeednetModel,
    TextCnnModel,
    TransformerModel,
)
from modelwright.recipe.spec import (
    AUDIO,
    IMAGES,
    TEXTS,
    For,
    FromList,
    Spec,
    TypeDescription,
)
from modelwright.recipe.train import TrainSpec

_WORD = r"[A-Za-z0-9](?:[\w.-]*\w)?"
HUB_NAME = re.compile(rf"(?P<repo>{_WORD}/{_WORD})(?:@(?P<revision>{_WORD}(?:/{_WORD})*))?", re.A)
"""A repository of a hub, and of it a branch, a tag or the hash of a commit."""


def _check_hub_name(value: str) -> str:
    if not HUB_NAME.fullmatch(value) or ".." in value or "--" in value.partition("@")[0]:
        raise ValueError(
            f"{value!r} isn't the name of a repository; write ORG/NAME, or ORG/NAME@REVISION for a "
            "branch, a tag or a commit"
        )
    return value


HubName = Annotated[
    str,
    AfterValidator(_check_hub_name),
    TypeDescription("`ORG/NAME` or `ORG/NAME@REVISION`", r"^[^@/]+/[^@/]+(@.+)?$"),
]


@dataclass(frozen=True, slots=True)
class FolderFiles:
    """The files that a folder, or a repository of a hub, holds beside the weights."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    has_shards: bool = False
    """Whether the weights may be in several files, which an index names."""


class HubSpec(NetworkSpec):
    """What a section `model` says of a network that may come from a hub."""

    files: ClassVar[FolderFiles]
    folder_setting: ClassVar[str]
    """The setting that names a folder with the same files."""
    if TYPE_CHECKING:  # Each of them has its own sentence on it.
        hub: str | None


class AdaptersSpec(Spec):
    """Adapters of low rank (LoRA, Hu et al. 2021): they learn, and the network stands still.

    A last layer for labels or numbers learns too. Nothing of them is left in the model file: they
    are added to the weights.
    """

    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    """The rank of an adapter: how many directions of a layer it can change."""
    alpha: Annotated[float, Field(gt=0, le=4096)] = 16.0
    """The weight of an adapter, which is shared by its rank."""
    match: Annotated[tuple[str, ...], FromList, Field(min_length=1)] = ("*",)
    """Patterns of the names of fully connected layers that get one, such as `*.query`."""


_FOR_VECTORS = For(outputs=VECTOR_OUTPUTS)
_OWN_TOKENIZER = tuple(
    f"text.{name}" for name in ("tokenizer", "vocab_size", "min_count", "lowercase", "vectors")
)


class TransformersModel(HubSpec):
    """A network of Hugging Face's transformers, from a folder or a hub, trained further.

    Its tokenizer comes along. An encoder of the kind of BERT answers with labels or numbers, a
    network of the kind of T5 or BART writes texts from others, and one of the kind of GPT-2 or
    Llama writes a text on.
    """

    inputs = TEXTS
    outputs = (*VECTOR_OUTPUTS, OutputKind.SEQ2SEQ, OutputKind.CAUSAL_LM)
    settles = _OWN_TOKENIZER
    files = FolderFiles(
        ("config.json", "tokenizer.json"), ("generation_config.json",), has_shards=True
    )
    folder_setting = "path"

    name: Literal["transformers"]
    path: str | None = None
    """The folder, on this machine: nothing is fetched. It holds `config.json`, `tokenizer.json` and
    weights as safetensors."""
    hub: HubName | None = None
    """Or a repository of Hugging Face's hub with these files, such as
    `sentence-transformers/all-MiniLM-L6-v2`. They are downloaded once. What follows an `@` is a
    branch, a tag or a commit; without, it is `main`, and the run keeps the commit that it found."""
    pooling: Annotated[Literal["first", "mean"], _FOR_VECTORS] = "first"
    """What an encoder's last layer sees of a text: the state of its first token, or the mean."""
    dropout: Annotated[Dropout, _FOR_VECTORS] = 0.1
    """The share dropped before an encoder's last layer, in training; within the network, its own
    settings hold."""
    adapters: AdaptersSpec | None = None
    """Train adapters of low rank instead of the whole network."""

    @model_validator(mode="after")
    def _check_origin(self) -> Self:
        if self.path is None and self.hub is None:
            raise ValueError("write `path`, a folder, or `hub`, such as `hub: ORG/NAME`")
        if self.path is not None and self.hub is not None:
            raise ValueError("`path` and `hub` both say where it comes from: leave one of them out")
        return self

    @property
    def is_pretrained(self) -> bool:
        return True


class MinilmModel(NetworkSpec):
    """A small encoder for English texts (all-MiniLM-L6-v2, Wang et al. 2020), pretrained.

    It has 22.6 million parameters, and its tokenizer comes along. Its published weights
    (Apache-2.0) were trained to tell which sentences belong together; the extra `[pretrained]`
    installs them.
    """

    inputs = TEXTS
    settles = _OWN_TOKENIZER

    name: Literal["minilm"]
    pooling: Literal["first", "mean"] = "mean"
    """What the last layer sees of a text: the state of its first token, or the mean."""
    dropout: Dropout = 0.1
    """The share dropped before the last layer, in training."""
    adapters: AdaptersSpec | None = None
    """Train adapters of low rank instead of the whole network."""

    @property
    def published(self) -> str:
        return self.name


LinearFeatures = Literal["tfidf", "hog", "logmel", "efficientnet-lite0", "minilm"]
Regularization = Annotated[float, Field(gt=0, le=1e9)]


class LinearModel(NetworkSpec):
    """A linear model of features that aren't learnt: quick, and hard to beat where data is small.

    Logistic regression of labels, ridge regression of numbers, as scikit-learn fits them.
    """

    inputs = ANY_INPUT
    takes_any_size = False
    settles = (
        "augment",
        *(f"train.{name}" for name in TrainSpec.model_fields if name not in ("budget", "loss")),
    )
    settles_why = "is fitted without it"
    name: Literal["linear"]
    """The family."""
    features: Annotated[
        LinearFeatures | Literal["auto"],
        For(TEXTS, values=("tfidf", "minilm")),
        For(IMAGES, values=("hog", "efficientnet-lite0")),
        For(AUDIO, values=("logmel",)),
    ] = "auto"
    """What the model sees of a sample. Of texts the TF-IDF weights of n-grams of words and
    characters (`tfidf`), of images histograms of oriented gradients, block by block and their mean
    and deviation over the image (`hog`), of recordings mean, deviation, change and means of each
    quarter of the bands of a log-mel spectrogram (`logmel`); `auto` takes the one of these of the
    kind of sample. Or what a published network gives of a photograph
    (`efficientnet-lite0`) or of an English text (`minilm`), whose weights the extra
    `[pretrained]` installs; the model file then holds it too."""
    C: Annotated[
        Literal["auto"] | Regularization | tuple[Regularization, ...],
        FromList,
    ] = "auto"
    """The inverse of the strength of regularization, as scikit-learn's `C`; of numbers the inverse
    of ridge regression's `alpha`. Of several the best on validation is taken; `auto` tries a row
    of them. `train.budget` bounds how long that goes on."""

    @property
    def published(self) -> str:
        return "" if self.network is None else self.network.published

    @property
    def usual_side(self) -> int | None:
        return None if self.network is None else self.network.usual_side

    @property
    def network(self) -> EfficientNetLite0Model | MinilmModel | None:
        """The published network whose features are taken, if any."""
        if self.features == "efficientnet-lite0":
            return EfficientNetLite0Model(name="efficientnet-lite0")
        return MinilmModel(name="minilm") if self.features == "minilm" else None

    @property
    def own_settles(self) -> tuple[str, ...]:
        if self.network is not None:
            return (*self.settles, *self.network.own_settles)
        return (*self.settles, "text", "transforms.normalize")

    def of(self, kind: InputKind) -> LinearModel:
        """Return it with the features that `auto` stands for."""
        if self.features != "auto":
            return self
        return self.model_copy(update={"features": _LINEAR_FEATURES[kind]})


_LINEAR_FEATURES: dict[InputKind, LinearFeatures] = {
    InputKind.TEXT: "tfidf",
    InputKind.IMAGE: "hog",
    InputKind.AUDIO: "logmel",
}


class TimmModel(HubSpec):
    """An image network as the library timm builds it, new or from weights of a folder or a hub.

    It answers with labels or numbers.
    """

    inputs = IMAGES
    files = FolderFiles(("config.json",))
    folder_setting = "weights"

    name: Literal["timm"]
    model: str | None = None
    """The network, by timm's name without a tag: `resnet18`, `vit_tiny_patch16_224`. With `hub` it
    may be left out."""
    weights: str | None = None
    """A safetensors file, or a folder with `config.json` and `model.safetensors`: nothing is
    fetched. Its last layer is left behind."""
    hub: HubName | None = None
    """Or a repository of Hugging Face's hub with these two files, such as `timm/resnet18.a1_in1k`.
    They are downloaded once. What follows an `@` is a branch, a tag or a commit; without, it is
    `main`, and the run keeps the commit that it found."""
    adapters: AdaptersSpec | None = None
    """Train adapters of low rank instead of the whole network."""

    @model_validator(mode="after")
    def _check_origin(self) -> Self:
        if self.model is None and self.hub is None:
            raise ValueError("write `model`, the name of a network, or `hub`, such as `ORG/NAME`")
        if self.weights is not None and self.hub is not None:
            raise ValueError(
                "`weights` and `hub` both say where weights come from: leave one of them out"
            )
        return self

    @property
    def is_pretrained(self) -> bool:
        return self.weights is not None or self.hub is not None


class InitModel(NetworkSpec):
    """The network of an existing model file, trained further; images are taken as it takes them."""

    outputs = ANY_OUTPUT
    settles = ("text", "audio", "transforms.normalize")

    init: str
    """The model file to start from; where the labels differ, the last layer starts anew."""
    freeze: Annotated[tuple[str, ...], FromList] = ()
    """Patterns such as `blocks.0.*` of parameters that stay as they are."""
    adapters: AdaptersSpec | None = None
    """Train adapters of low rank instead of the whole network."""

    @property
    def is_pretrained(self) -> bool:
        return True


def _tag(value: object) -> str:
    if isinstance(value, Mapping):
        name, init = value.get("name"), value.get("init")
    else:
        name, init = getattr(value, "name", None), getattr(value, "init", None)
    return "init" if init is not None and name is None else str(name)


ModelSpec = Annotated[
    Annotated[LinearModel, Tag("linear")]
    | Annotated[MlpModel, Tag("mlp")]
    | Annotated[CnnModel, Tag("cnn")]
    | Annotated[ResnetModel, Tag("resnet")]
    | Annotated[SpeednetModel, Tag("speednet")]
    | Annotated[EfficientNetLite0Model, Tag("efficientnet-lite0")]
    | Annotated[BowModel, Tag("bow")]
    | Annotated[TextCnnModel, Tag("text-cnn")]
    | Annotated[RnnModel, Tag("rnn")]
    | Annotated[TransformerModel, Tag("transformer")]
    | Annotated[AudioCnnModel, Tag("audio-cnn")]
    | Annotated[ConvCtcModel, Tag("conv-ctc")]
    | Annotated[RnnCtcModel, Tag("rnn-ctc")]
    | Annotated[DecoderModel, Tag("decoder")]
    | Annotated[Seq2SeqModel, Tag("seq2seq")]
    | Annotated[DetectorModel, Tag("detector")]
    | Annotated[TransformersModel, Tag("transformers")]
    | Annotated[MinilmModel, Tag("minilm")]
    | Annotated[TimmModel, Tag("timm")]
    | Annotated[InitModel, Tag("init")],
    Discriminator(_tag),
]
