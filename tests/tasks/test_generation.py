from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from modelwright.errors import ModelwrightError, RequestError
from modelwright.tasks.beam_search import BeamSearchConfig, beam_search
from modelwright.tasks.generation import collect, generate, left_padded
from modelwright.tasks.sampling import (
    END,
    SamplingConfig,
    draw,
    log_softmax,
    penalised,
    top_k,
    top_p,
    uniform,
)

V = 7
FIRST = 2


class Table:
    """A network whose logits depend on a sample's table `[V, V]` and its last two tokens."""

    def __init__(self):
        self.steps = []

    def start(self, inputs):
        return {"table": inputs["table"], "last": np.zeros(len(inputs["table"]), np.int64)}

    def step(self, tokens, state):
        self.steps.append(len(tokens))
        rows = np.arange(len(tokens))
        before = tokens[:, -2] if tokens.shape[1] > 1 else state["last"]
        logits = state["table"][rows, tokens[:, -1]] + 0.5 * state["table"][rows, before]
        return logits.astype(np.float32), {**state, "last": tokens[:, -1]}

    def reorder(self, state, rows):
        return {name: value[rows] for name, value in state.items()}


def tables(count, seed=0):
    random = np.random.default_rng(seed)
    return {"table": random.normal(size=(count, V, V)) * 2}


def begun(count):
    return np.full((count, 1), FIRST)


def written(inputs, config, **options):
    count = len(inputs["table"])
    return collect(generate(Table(), inputs, begun(count), config=config, **options), count)


# -- filters -----------------------------------------------------------------------------------

# Neither too near one another for a temperature to tell apart, nor too few that are equal.
figures = st.integers(-300, 300).map(lambda number: number / 10)
rows = arrays(np.float64, (3, 9), elements=figures)
shares = rows.map(lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True))


@given(shares, st.floats(0.01, 1.0))
def test_top_p_keeps_the_smallest_set_that_has_the_mass(x, p):
    kept = top_p(x, p)
    for row, found in zip(x, kept, strict=True):
        stays = found > 0
        assert (found[stays] == row[stays]).all()
        if p < 1:
            # Up to the rounding of sums taken in another order.
            ordered = np.sort(row)[::-1]
            assert ordered[: stays.sum()].sum() >= p - 1e-12
            assert ordered[: stays.sum() - 1].sum() < p + 1e-12
            assert row[stays].sum() == pytest.approx(ordered[: stays.sum()].sum())


@given(shares, st.floats(0.01, 1.0))
def test_top_p_twice_is_once(x, p):
    once = top_p(x, p)
    np.testing.assert_array_equal(top_p(once, p), once)


@given(rows, st.integers(1, 12))
def test_top_k_keeps_k_and_what_equals_the_kth(x, k):
    kept = top_k(x, k)
    for row, found in zip(x, kept, strict=True):
        kth = np.sort(row)[::-1][min(k, len(row)) - 1]
        np.testing.assert_array_equal(found, np.where(row >= kth, row, -np.inf))
    np.testing.assert_array_equal(top_k(kept, k), kept)


def test_filters_by_hand():
    x = np.array([[1.0, 3.0, 2.0, 3.0]])
    assert top_k(x, 1).tolist() == [[-math.inf, 3.0, -math.inf, 3.0]]
    assert top_k(x, 3).tolist() == [[-math.inf, 3.0, 2.0, 3.0]]
    p = np.array([[0.5, 0.125, 0.25, 0.125]])
    assert top_p(p, 0.5).tolist() == [[0.5, 0, 0, 0]]
    assert top_p(p, 0.51).tolist() == [[0.5, 0, 0.25, 0]]
    assert top_p(p, 0.8).tolist() == [[0.5, 0.125, 0.25, 0]]
    assert top_p(p, 1.0).tolist() == p.tolist()


def test_penalty_makes_what_occurred_less_likely_whatever_its_sign():
    logits = np.array([[2.0, -2.0, 2.0, -2.0]])
    seen = np.array([[True, True, False, False]])
    assert penalised(logits, seen, 2.0).tolist() == [[1.0, -4.0, 2.0, -2.0]]
    assert penalised(logits, seen, 1.0).tolist() == logits.tolist()


@given(rows, st.floats(0.1, 3.0), st.integers(1, 9), st.floats(0.05, 1.0))
def test_temperature_zero_is_greedy(x, penalty, k, p):
    seen = np.zeros(x.shape, bool)
    seen[:, ::2] = True
    zero = SamplingConfig(temperature=0, repetition_penalty=penalty, top_k=k, top_p=p, barred=())
    best = penalised(x, seen, penalty).argmax(1)
    assert draw(x, seen, zero, [0.5] * 3).tolist() == best.tolist()


@given(rows, st.floats(0, 1, exclude_max=True))
def test_tiny_temperature_and_one_token_are_greedy(x, figure):
    seen = np.zeros(x.shape, bool)
    top = np.sort(x, 1)
    for config in (
        SamplingConfig(temperature=1e-300, barred=()),
        SamplingConfig(top_k=1, barred=()),
    ):
        found = draw(x, seen, config, [figure] * 3)
        assert (x[np.arange(3), found] == top[:, -1]).all()


def test_draws_follow_the_shares():
    logits = np.log(np.array([[0.1, 0.2, 0.0001, 0.5, 0.1999]]))
    count = 4000
    figures = [uniform(5, sample, 0) for sample in range(count)]
    config = SamplingConfig(top_k=4, barred=(0,))
    found = draw(logits.repeat(count, 0), np.zeros((count, 5), bool), config, figures)
    got = np.bincount(found, minlength=5) / count
    wanted = np.array([0, 0.2, 0.0001, 0.5, 0.1999])
    wanted /= wanted.sum()
    assert np.abs(got - wanted).max() < 4 * 0.5 / math.sqrt(count)


def test_last_figure_before_one_draws_a_token_that_has_a_share():
    logits = np.array([[0.0, 0.0, 0.0, -np.inf]])
    found = draw(logits, np.zeros((1, 4), bool), SamplingConfig(barred=()), [1 - 2**-53])
    assert found.tolist() == [2]


# -- random figures ----------------------------------------------------------------------------


def test_figures_are_even_and_golden():
    figures = np.array([uniform(1, sample, place) for sample in range(40) for place in range(50)])
    assert len(set(figures)) == 2000
    assert figures.min() >= 0
    assert figures.max() < 1
    assert figures.mean() == pytest.approx(0.5, abs=4 * math.sqrt(1 / 12 / 2000))
    # Golden: other figures would change every text that a seed stands for.
    assert uniform(0, 0, 0) == GOLDEN[0]
    assert uniform(7, 3, 11) == GOLDEN[1]


GOLDEN = (0.011546754286331562, 0.8649091672632698)


# -- sampling ----------------------------------------------------------------------------------


def test_greedy_text_by_hand():
    inputs = tables(1)
    table, ids, before, last = inputs["table"][0], [], 0, FIRST
    while len(ids) < 6:
        logits = table[last] + 0.5 * table[before]
        logits[:3] = -np.inf
        before, last = last, int(logits.argmax())
        if last == END:
            break
        ids.append(last)
    assert list(written(inputs, SamplingConfig(max_new_tokens=6, temperature=0))[0].ids) == ids


@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"top_p": 0.8, "repetition_penalty": 1.3}])
def test_a_samples_text_does_not_depend_on_the_others(options):
    inputs, config = tables(6), SamplingConfig(max_new_tokens=12, seed=4, **options)
    together = written(inputs, config)
    assert len({text.ids for text in together}) > 1
    for row in range(6):
        alone = {"table": inputs["table"][row : row + 1]}
        assert written(alone, config, samples=[row]) == [together[row]]


def test_same_seed_same_texts_and_another_seed_others():
    inputs = tables(4)
    one, same, other = (written(inputs, SamplingConfig(seed=seed)) for seed in (1, 1, 2))
    assert one == same != other


def test_finished_texts_cost_nothing():
    stepper = Table()
    pieces = list(generate(stepper, tables(8), begun(8), config=SamplingConfig(max_new_tokens=30)))
    ends = {piece.sample for piece in pieces if piece.finish == "end"}
    assert ends
    assert stepper.steps[0] == 8
    assert stepper.steps == sorted(stepper.steps, reverse=True)
    assert sum(stepper.steps) == len(pieces)


def test_texts_end_as_they_say():
    for text in written(tables(8), SamplingConfig(max_new_tokens=5)):
        assert END not in text.ids
        assert not set(text.ids) & {0, 1, 2}
        assert (len(text.ids) == 5) == (text.finish == "length")


def test_an_unlikely_loop_is_broken_by_the_penalty():
    inputs = {"table": np.full((1, V, V), 1.0)}
    inputs["table"][:, :, 5] = 3.0
    assert written(inputs, SamplingConfig(max_new_tokens=4, temperature=0))[0].ids == (5, 5, 5, 5)
    config = SamplingConfig(max_new_tokens=4, temperature=0, repetition_penalty=5.0, stop_ids=())
    assert written(inputs, config)[0].ids == (5, 3, 4, 6)


def test_nothing_to_write_is_nothing():
    assert written({"table": np.zeros((0, V, V))}, SamplingConfig()) == []


def test_it_streams():
    stepper = Table()
    stream = generate(
        stepper, tables(1), begun(1), config=SamplingConfig(max_new_tokens=9, temperature=0)
    )
    next(stream)
    assert stepper.steps == [1]


# -- text --------------------------------------------------------------------------------------

SCRIPT = "one two STOP three"


def spoken(text, *, stop=(), decode=None, max_new_tokens=99):
    """Return the pieces of a network that writes a text's characters, then ends."""
    symbols = sorted(set(text))
    ids = [symbols.index(character) + 4 for character in text] + [END]

    class Script:
        def start(self, inputs):
            return np.zeros(1, np.int64)

        def step(self, tokens, state):
            logits = np.full((1, len(symbols) + 4), -9.0, np.float32)
            logits[0, ids[state[0]]] = 9.0
            return logits, state + 1

        def reorder(self, state, rows):
            return state[rows]

    config = SamplingConfig(temperature=0, stop=stop, max_new_tokens=max_new_tokens)
    join = decode or (lambda found: "".join(symbols[token - 4] for token in found))
    return list(generate(Script(), {}, begun(1), config=config, decode=join))


def test_stop_string_ends_the_text_and_is_not_part_of_it():
    pieces = spoken(SCRIPT, stop=("ST!", "STOP"))
    assert "".join(piece.text for piece in pieces) == "one two "
    assert pieces[-1].finish == "stop"
    # What may be the beginning of a stop string isn't shown before that is known.
    assert not any("S" in piece.text for piece in pieces)


def test_what_only_began_like_a_stop_string_is_shown_after_all():
    pieces = spoken(SCRIPT, stop=("STOPPED", "threes"))
    assert "".join(piece.text for piece in pieces) == SCRIPT
    assert pieces[-1].finish == "end"
    cut = spoken(SCRIPT, stop=("STOPPED",), max_new_tokens=11)
    assert "".join(piece.text for piece in cut) == "one two STO"
    assert cut[-1].finish == "length"


def test_a_stop_string_may_end_in_the_middle_of_a_token():
    words = {4: "ab", 5: "cd", 6: "ef"}

    def decode(ids):
        return "".join(words[token] for token in ids)

    pieces = spoken("xyz", stop=("bc",), decode=decode)
    assert "".join(piece.text for piece in pieces) == "a"
    assert [piece.token for piece in pieces] == [4, 5]


def test_characters_are_shown_when_all_their_bytes_are_there():
    parts = "é€😀!".encode()

    def decode(ids):
        return parts[: len(ids)].decode(errors="replace")

    pieces = spoken("x" * len(parts), decode=decode)
    assert [piece.text for piece in pieces if piece.text] == ["é", "€", "😀", "!"]


@given(
    st.text("abc ", max_size=12).filter(bool),
    st.lists(st.text("abc", min_size=1, max_size=3), max_size=3),
)
def test_streamed_text_is_the_text_up_to_its_first_stop_string(text, stop):
    pieces = spoken(text, stop=tuple(stop))
    found = "".join(piece.text for piece in pieces)
    # The first to be complete, not the first to begin: what follows isn't known when it is.
    ends = [text.find(word) + len(word) for word in stop if word in text]
    if not ends:
        assert found == text
    else:
        seen = text[: min(ends)]
        assert found == seen[: min(seen.find(word) for word in stop if word in seen)]


def test_stop_strings_need_a_tokenizer():
    with pytest.raises(RequestError, match="tokenizer"):
        list(generate(Table(), tables(1), begun(1), config=SamplingConfig(stop=("x",))))


# -- beam search -------------------------------------------------------------------------------


def exhaustive(table, *, max_new_tokens, alpha):
    """Return the best text of one sample by looking at all."""
    best, score = (), -math.inf
    letters = [token for token in range(3, V)]
    for length in range(1, max_new_tokens + 1):
        for ids in itertools.product(letters, repeat=length):
            if END in ids[:-1] or (length < max_new_tokens and ids[-1] != END):
                continue
            before, last, total = 0, FIRST, 0.0
            for token in ids:
                logits = (table[last] + 0.5 * table[before]).astype(np.float32).astype(float)
                logits[:3] = -np.inf
                total += logits[token] - np.log(np.exp(logits).sum())
                before, last = last, token
            found = total / ((5 + length) / 6) ** alpha
            if found > score:
                best, score = ids[:-1] if ids[-1] == END else ids, found
    return best, score


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_wide_beam_finds_what_looking_at_all_finds(alpha):
    inputs = tables(5, seed=3)
    config = BeamSearchConfig(num_beams=400, max_new_tokens=4, length_penalty=alpha)
    for found, table in zip(
        beam_search(Table(), inputs, begun(5), config=config), inputs["table"], strict=True
    ):
        best, score = exhaustive(table, max_new_tokens=4, alpha=alpha)
        assert found.ids == best
        assert found.score == pytest.approx(score, rel=1e-5)  # its logits are fp32


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_one_beam_is_greedy(alpha, seed):
    inputs = tables(6, seed=seed)
    config = BeamSearchConfig(num_beams=1, max_new_tokens=8, length_penalty=alpha)
    found = beam_search(Table(), inputs, begun(6), config=config)
    greedy = written(inputs, SamplingConfig(max_new_tokens=8, temperature=0))
    assert [item.ids for item in found] == [item.ids for item in greedy]


@given(st.integers(1, 6), st.sampled_from([0.0, 0.8]), st.integers(0, 5))
def test_beams_of_a_sample_do_not_depend_on_the_others(beams, alpha, seed):
    inputs = tables(4, seed=seed)
    config = BeamSearchConfig(num_beams=beams, max_new_tokens=6, length_penalty=alpha)
    together = beam_search(Table(), inputs, begun(4), config=config)
    for row, table in enumerate(inputs["table"]):
        assert beam_search(Table(), {"table": table[None]}, begun(1), config=config) == [
            together[row]
        ]


def test_more_beams_find_no_worse_than_greedy_here_and_longer_ones_with_a_penalty():
    inputs = tables(20, seed=9)
    one, four = (
        beam_search(
            Table(), inputs, begun(20), config=BeamSearchConfig(num_beams=beams, max_new_tokens=6)
        )
        for beams in (1, 4)
    )
    assert sum(item.score for item in four) > sum(item.score for item in one)
    long = BeamSearchConfig(num_beams=4, max_new_tokens=6, length_penalty=2.0)
    longer = beam_search(Table(), inputs, begun(20), config=long)
    assert sum(len(item.ids) for item in longer) > sum(len(item.ids) for item in four)


def test_an_open_text_may_win_by_its_length():
    """The search goes on while a longer text could still have the better score."""
    config = BeamSearchConfig(num_beams=2, max_new_tokens=4, length_penalty=3.0)
    table, word = np.full((V, V), -30.0, np.float32), V - 1
    assert word != END
    table[FIRST, END], table[FIRST, word] = math.log(0.6), math.log(0.4)
    table[word, END], table[word, word] = math.log(0.02), math.log(0.98)
    (found,) = beam_search(Table(), {"table": table[None]}, begun(1), config=config)
    best, score = exhaustive(table, max_new_tokens=4, alpha=3.0)
    assert found.ids == best
    assert len(best) > 1
    assert found.score == pytest.approx(score, rel=1e-4)


def test_score_is_by_hand():
    assert BeamSearchConfig(length_penalty=0.5).score(-3.0, 19) == pytest.approx(-3.0 / 2.0)
    assert BeamSearchConfig().score(-3.0, 19) == -3.0


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"max_new_tokens": 0},
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": math.inf},
        {"stop": ("",)},
        {"seed": -1},
    ],
)
def test_figures_out_of_range_are_refused(change):
    with pytest.raises(RequestError, match=f"`{next(iter(change))}`"):
        SamplingConfig(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"num_beams": 0},
        {"max_new_tokens": 0},
        {"length_penalty": -1.0},
        {"length_penalty": math.nan},
    ],
)
def test_beam_figures_out_of_range_are_refused(change):
    with pytest.raises(RequestError, match=f"`{next(iter(change))}`"):
        BeamSearchConfig(**change)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_answers_that_are_not_numbers_are_refused(bad):
    inputs = tables(2)
    inputs["table"][1, FIRST, 5] = bad
    with pytest.raises(ModelwrightError, match="isn't numbers"):
        written(inputs, SamplingConfig())
    with pytest.raises(ModelwrightError, match="isn't numbers"):
        beam_search(Table(), inputs, begun(2), config=BeamSearchConfig())


def test_prompts_are_padded_on_the_left():
    tokens, padding = left_padded([[5, 6, 7], [8], [9, 10]])
    assert tokens.tolist() == [[5, 6, 7], [0, 0, 8], [0, 9, 10]]
    assert padding.tolist() == [0, 2, 1]
    with pytest.raises(RequestError, match="no token"):
        left_padded([[5], []])


def test_log_softmax_of_large_logits_is_finite():
    found = log_softmax(np.array([[1000.0, 999.0], [-1000.0, -1001.0]]))
    expected = -np.log1p(np.exp(-1.0))
    np.testing.assert_allclose(found, [[expected, expected - 1.0]] * 2, rtol=1e-12)
