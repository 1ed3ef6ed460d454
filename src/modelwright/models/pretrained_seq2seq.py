"""Networks from elsewhere that write a text from another, with the methods of those in `seq2seq`.

Tokens are numbered as everywhere here, and turned into the network's own numbers at its ends. The
state between two steps is what was written, and each step reads all of it again: plain, and right
for every kind of network, at the price of work that grows with the square of a text's length.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modelwright.errors import ModelFileError
from modelwright.models.logmel import mask
from modelwright.transforms.foreign import Numbering
from modelwright.transforms.text import BEGIN

_NEVER = 10.0
"""How far the logit of what can't be written lies below the least of the others."""


class PretrainedSeq2Seq(nn.Module):
    """An encoder and a decoder from elsewhere.

    Args:
        network: the library's network, with a head over its vocabulary.
        numbering: how its tokens are numbered here.
    """

    theirs: Tensor

    def __init__(self, network: nn.Module, numbering: Numbering) -> None:
        super().__init__()
        self.network = network
        self.vocabulary = numbering.size + 1
        self.padding = numbering.padding
        self.register_buffer("theirs", torch.from_numpy(numbering.theirs()), persistent=False)

    def forward(self, source: Tensor, source_length: Tensor, target: Tensor) -> Tensor:
        """Return the logits `[N, S, V]` of what follows each token of the target.

        Args:
            source: `[N, T]`.
            source_length: `[N]`, at least 1.
            target: `[N, S]`; it begins with the id that begins a text.
        """
        memory, _ = self.encode(source, source_length)
        return self._logits(target, source_length, memory)

    def encode(self, source: Tensor, source_length: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `step` needs of sources `[N, T]` with lengths `[N]`.

        Returns:
            The memory `[N, T, D]`, the encoder's states, and the state `[N, 0]`: nothing written.
        """
        is_real = mask(source_length, source.shape[1])
        ids = self.theirs[source].masked_fill(~is_real, self.padding)
        encoder = self.network.get_encoder()  # type: ignore[operator]
        memory: Tensor = encoder(input_ids=ids, attention_mask=is_real.long())[0]
        return memory, memory[:, :0, 0]

    def step(
        self, tokens: Tensor, source_length: Tensor, memory: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what follows, and the state with these tokens added.

        Args:
            tokens: `[N, 1]`.
            source_length: `[N]`.
            memory: `[N, T, D]`.
            state: `[N, P]`, the tokens before as numbers of fp32, which holds them exactly.

        Returns:
            The logits `[N, V]` and the state `[N, P + 1]`.
        """
        written = torch.cat((state.long(), tokens), 1)
        return self._logits(written, source_length, memory)[:, -1], written.float()

    def _logits(self, written: Tensor, source_length: Tensor, memory: Tensor) -> Tensor:
        """Return the logits `[N, S, V]` after each token `[N, S]`, by our numbers."""
        found = self.network(
            encoder_outputs=(memory,),
            attention_mask=mask(source_length, memory.shape[1]).long(),
            decoder_input_ids=self.theirs[written],
            use_cache=False,
        ).logits
        ours = found.index_select(-1, self.theirs)
        # That which begins a text is another token's second number, and never follows.
        never = ours.amin(-1, keepdim=True).detach() - _NEVER
        return torch.cat((ours[..., :BEGIN], never, ours[..., BEGIN + 1 :]), -1)


def numbering_of(values: object) -> Numbering:
    """Return how tokens are numbered, from an architecture's section.

    Raises:
        ModelFileError: it doesn't say.
    """
    found = Numbering.from_json(values)
    if found is None:
        raise ModelFileError("the architecture doesn't say how tokens are numbered")
    return found
