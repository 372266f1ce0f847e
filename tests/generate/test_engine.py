"""Generation: the same tokens as ``transformers``, however requests share the batch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from callama.common.errors import CallamaError
from callama.generate.engine import Generation, Generator
from callama.generate.sampling import Sampling, choose
from callama.model.transformer import Transformer
from callama.weights.lazy import permute_rows
from tests import tiny

VOCAB = 97
LENGTHS = (1, 17, 5, 30, 2, 5, 11)
HF_NAMES = {
    "attention.wq": "self_attn.q_proj", "attention.wk": "self_attn.k_proj", "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj", "feed_forward.w1": "mlp.gate_proj", "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj", "attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Transformer:
    return tiny.random_model(VOCAB, seed=5).eval()


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(VOCAB, (length,), generator=generator).tolist() for length in LENGTHS]


@pytest.fixture
def dirty_memory() -> Iterator[None]:
    """Uninitialised memory reads as NaN, as it may in a process that has run for a while."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)


def ids(generations: list[Generation]) -> list[list[int]]:
    return [generation.ids for generation in generations]


def reference(model: Transformer, prompts: list[list[int]], count: int) -> list[list[int]]:
    """Greedy ids from ``transformers`` with the same weights, one prompt at a time."""
    from transformers import LlamaConfig, LlamaForCausalLM

    params = model.params
    config = LlamaConfig(
        vocab_size=params.vocab_size, hidden_size=params.dim, intermediate_size=params.ffn_dim,
        num_hidden_layers=params.n_layers, num_attention_heads=params.n_heads, num_key_value_heads=params.kv_heads,
        max_position_embeddings=params.max_seq_len, rms_norm_eps=params.norm_eps, rope_theta=params.rope_theta,
        tie_word_embeddings=False, bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    assert config.rope_parameters["rope_theta"] == params.rope_theta
    state = {}
    for name, tensor in model.state_dict().items():
        heads = {"wq": params.n_heads, "wk": params.kv_heads}.get(name.split(".")[-2])
        for ours, theirs in HF_NAMES.items():
            name = name.replace(f".{ours}.", f".{theirs}.")
        name = {"output.weight": "lm_head.weight"}.get(name, "model." + name.replace("tok_embeddings", "embed_tokens"))
        state[name] = permute_rows(tensor, heads) if heads else tensor
    peer = LlamaForCausalLM(config)
    peer.load_state_dict(state)
    peer.eval()
    out = []
    for prompt in prompts:
        tokens = torch.tensor([prompt])
        made = peer.generate(
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=count, do_sample=False, use_cache=True
        )
        out.append(made[0, len(prompt) :].tolist())
    return out


@pytest.mark.parametrize("slots", [1, 3, 16])
def test_greedy_ids_equal_transformers(
    model: Transformer, prompts: list[list[int]], slots: int, dirty_memory: None
) -> None:
    expected = reference(model, prompts, 24)
    assert len({tuple(e) for e in expected}) == len(prompts)
    assert ids(Generator(model, (), slots).generate(prompts, 24)) == expected


def test_fifty_prompts_answer_as_in_transformers(model: Transformer) -> None:
    """Half of them begin alike, so that one takes over what another has read."""
    generator = torch.Generator().manual_seed(4)
    start = torch.randint(VOCAB, (30,), generator=generator).tolist()
    rests = [torch.randint(VOCAB, (1 + i % 9,), generator=generator).tolist() for i in range(50)]
    prompts = [[*(start if i % 2 else ()), *rest] for i, rest in enumerate(rests)]
    assert ids(Generator(model, (), 8).generate(prompts, 16)) == reference(model, prompts, 16)


def read_tokens(model: Transformer, prompts: list[list[int]], slots: int) -> tuple[list[list[int]], int]:
    """Three ids after each prompt, and how many tokens went through the model."""
    seen = 0

    def count(_: object, inputs: tuple[torch.Tensor, object]) -> None:
        nonlocal seen
        seen += inputs[0].numel()

    handle = model.register_forward_pre_hook(count)
    made = ids(Generator(model, (), slots).generate(prompts, 3))
    handle.remove()
    return made, seen


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_what_prompts_begin_with_alike_is_read_once(
    model: Transformer, prompts: list[list[int]], slots: int, dirty_memory: None
) -> None:
    starts = [prompts[3], prompts[1] + prompts[6]]
    many = [[*start, i, 7] for i in range(6) for start in starts] + [prompts[2], [*starts[0], 3, 7]]
    alone = [read_tokens(model, [prompt], 1)[0][0] for prompt in many]
    made, seen = read_tokens(model, many, slots)
    assert made == alone
    # Two beginnings, twelve rests, one prompt of its own, the last token of one that came twice, and
    # of each answer what its last token was chosen from.
    assert seen == sum(map(len, starts)) + 12 * 2 + len(prompts[2]) + 1 + 2 * len(many)


@pytest.mark.parametrize("slots", [2, 16])
def test_shared_beginnings_leave_the_answers_as_they_are(
    model: Transformer, prompts: list[list[int]], slots: int
) -> None:
    """With stops, so that slots are taken over while others are in the middle of an answer."""
    many = [[*prompts[3], *prompt, i] for i, prompt in enumerate(prompts * 3)]
    free = ids(Generator(model, (), 1).generate(many[:1], 40))
    stops = {free[0][3], free[0][20], 5, 6}
    alone = [Generator(model, stops, 1).generate([prompt], 40)[0] for prompt in many]
    assert len({len(generation.ids) for generation in alone}) > 3
    assert Generator(model, stops, slots).generate(many, 40) == alone


def test_a_batch_answers_like_one_by_one(model: Transformer, prompts: list[list[int]]) -> None:
    """With stops, so that slots fall free at different times and are taken by waiting prompts."""
    free = ids(Generator(model, (), 1).generate(prompts, 40))
    stops = {free[0][3], free[1][7], free[3][20]}
    alone = [Generator(model, stops, 1).generate([prompt], 40)[0] for prompt in prompts]
    assert len({len(generation.ids) for generation in alone}) > 2
    for slots in (2, 3, 7):
        assert Generator(model, stops, slots).generate(prompts, 40) == alone


def test_any_stop_id_ends_an_answer_and_is_not_part_of_it(model: Transformer, prompts: list[list[int]]) -> None:
    (free,) = ids(Generator(model, (), 1).generate(prompts[1:2], 20))
    early, late = sorted(set(free), key=free.index)[2:4]
    for stops in ((late, early), (early, late), (early,)):
        (stopped,) = Generator(model, stops, 1).generate(prompts[1:2], 20)
        assert stopped == Generation(free[: free.index(early)], stopped=True)


def test_a_stop_as_the_first_token_gives_an_empty_answer(model: Transformer, prompts: list[list[int]]) -> None:
    first = [answer[0] for answer in ids(Generator(model, (), 4).generate(prompts, 1))]
    assert Generator(model, first, 2).generate(prompts, 20) == [Generation([], stopped=True)] * len(prompts)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_max_new_tokens_is_the_exact_limit(model: Transformer, prompts: list[list[int]], count: int) -> None:
    for generation in Generator(model, (), 3).generate(prompts, count):
        assert (len(generation.ids), generation.stopped) == (count, False)


def test_the_context_limits_prompt_and_answer_together(model: Transformer) -> None:
    context = model.params.max_seq_len
    prompts = [[3] * (context - 5), [3] * (context - 1), [3] * 10]
    made = Generator(model, (), 3).generate(prompts, 20)
    assert [len(generation.ids) for generation in made] == [5, 1, 20]
    short = Generator(model, (), 3, max_seq_len=16).generate([[3] * 10], 20)
    assert len(short[0].ids) == 6


@pytest.mark.parametrize(("length", "found"), [(0, "has 0 tokens"), (tiny.CONTEXT, "has 1024 tokens")])
def test_a_prompt_must_have_tokens_and_leave_room(model: Transformer, length: int, found: str) -> None:
    with pytest.raises(CallamaError, match=f"prompt 1 {found}"):
        Generator(model, ()).generate([[1], [1] * length], 5)


def test_nothing_in_nothing_out(model: Transformer) -> None:
    assert Generator(model, ()).generate([], 5) == []


def test_each_end_is_reported_once(model: Transformer, prompts: list[list[int]]) -> None:
    done: list[tuple[int, Generation]] = []
    out = Generator(model, (), 2).generate(prompts, 6, on_done=lambda index, made: done.append((index, made)))
    assert sorted(index for index, _ in done) == list(range(len(prompts)))
    assert all(made is out[index] for index, made in done)


def test_sampling_follows_its_seed(model: Transformer, prompts: list[list[int]]) -> None:
    def sample(seed: int, slots: int = 7) -> list[list[int]]:
        return ids(Generator(model, (), slots).generate(prompts, 20, Sampling(1.0, 0.9, seed)))

    assert sample(1) == sample(1) == sample(1, slots=2)
    assert sample(1) != sample(2)
    assert sample(1) != ids(Generator(model, (), 7).generate(prompts, 20))


def test_equal_prompts_of_a_batch_draw_differently(model: Transformer) -> None:
    made = ids(Generator(model, (), 4).generate([[5, 6]] * 4, 20, Sampling(1.5, 1.0, 1)))
    assert len({tuple(answer) for answer in made}) == 4


@pytest.mark.parametrize("top_p", [0.0, 1e-6])
def test_a_vanishing_nucleus_is_greedy(model: Transformer, prompts: list[list[int]], top_p: float) -> None:
    greedy = ids(Generator(model, (), 7).generate(prompts, 20))
    assert ids(Generator(model, (), 7).generate(prompts, 20, Sampling(1.0, top_p, 3))) == greedy


def test_the_nucleus_is_the_smallest_set_with_that_probability() -> None:
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()
    generator = torch.Generator().manual_seed(0)

    def drawn(top_p: float, temperature: float = 1.0) -> set[int]:
        return {choose(logits, Sampling(temperature, top_p), generator) for _ in range(300)}

    assert drawn(1.0) == {0, 1, 2, 3}
    assert drawn(0.75) == {1, 2, 3}
    assert drawn(0.65) == {1, 3}
    assert drawn(0.3) == {1}
    assert drawn(1.0, temperature=0.01) == drawn(1.0, temperature=1e-39) == {1}


def test_draws_have_the_probabilities_of_the_tempered_distribution() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0])
    generator = torch.Generator().manual_seed(0)
    counts = torch.bincount(
        torch.tensor([choose(logits, Sampling(2.0, 1.0), generator) for _ in range(4000)]), minlength=3
    )
    torch.testing.assert_close(counts / 4000, (logits / 2).softmax(-1), atol=0.03, rtol=0)


def turns(prompts: list[list[int]], answers: list[list[int]]) -> list[list[int]]:
    """The conversations one turn later, in another order, and one of them new."""
    longer = [[*prompt, *answer, 7, 8, i] for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))]
    return [*longer[::-2], [9, 9, *prompts[0]], *longer[-2::-2]]


@pytest.mark.parametrize("slots", [3, 8])
def test_of_a_conversation_that_comes_back_only_what_is_new_is_read(
    model: Transformer, prompts: list[list[int]], slots: int
) -> None:
    """As long as there is a slot for each; answers are the same in any case."""
    kept, seen = Generator(model, (), slots, keep=True), 0

    def count(_: object, inputs: tuple[torch.Tensor, object]) -> None:
        nonlocal seen
        seen += inputs[0].numel()

    later = turns(prompts, ids(kept.generate(prompts, 5)))
    again = turns(later, ids(Generator(model, (), 1).generate(later, 5)))
    with torch.inference_mode():
        handle = model.register_forward_pre_hook(count)
        made = kept.generate(later, 5), kept.generate(again, 5)
        handle.remove()
    assert made == (Generator(model, (), 4).generate(later, 5), Generator(model, (), 4).generate(again, 5))
    if slots == 8:
        # Of each conversation the answer's last id, three of the user and four of the next answer; the new
        # ones begin alike.
        assert seen == 7 * (1 + 3 + 4) + len(later[4]) + 4 + 8 * (1 + 3 + 4) + len(again[4]) - 2 + 4


def test_what_is_not_kept_is_read_with_the_weights_of_today(prompts: list[list[int]]) -> None:
    changing = tiny.random_model(VOCAB, seed=5).eval()
    generator = Generator(changing, (), 4)
    before = ids(generator.generate(prompts, 12))
    with torch.no_grad():
        for parameter in changing.parameters():
            parameter.mul_(-0.7)
    after = ids(generator.generate(prompts, 12))
    assert before != after == ids(Generator(changing, (), 4).generate(prompts, 12))
    kept = Generator(changing, (), 4, keep=True)
    first = ids(kept.generate(prompts, 12))
    kept.forget()
    assert ids(kept.generate(prompts, 12)) == first == after
