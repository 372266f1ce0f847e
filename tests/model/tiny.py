"""Llama models small enough for a test, each beside the same weights in ``transformers``."""

from dataclasses import replace

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from callama.model.attend import Documents
from callama.model.params import ModelParams
from callama.model.transformer import Dropout, Transformer
from callama.weights.lazy import unpermute_rows

LLAMA_3 = ModelParams(dim=128, n_layers=2, n_heads=4, n_kv_heads=2, vocab_size=97, multiple_of=64)
LLAMA_3_1 = replace(LLAMA_3, use_scaled_rope=True, rope_scale_factor=8.0, max_seq_len=131_072)
LLAMA_3_2 = replace(LLAMA_3_1, rope_scale_factor=32.0, n_kv_heads=1)
FAMILIES = {"Llama 3": (LLAMA_3, False), "Llama 3.1": (LLAMA_3_1, False), "Llama 3.2": (LLAMA_3_2, True)}
ROUNDED = replace(LLAMA_3, dim=32, n_heads=2, n_kv_heads=1, n_layers=1, vocab_size=11, multiple_of=16)

_HF_NAMES = {
    "attention.wq": "self_attn.q_proj", "attention.wk": "self_attn.k_proj", "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj", "feed_forward.w1": "mlp.gate_proj", "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj", "attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip


def hf_name(name: str) -> str:
    """``layers.0.attention.wq.weight`` → ``model.layers.0.self_attn.q_proj.weight``."""
    top = {"tok_embeddings.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight"}
    if name.startswith("layers."):
        _, layer, rest = name.split(".", 2)
        return f"model.layers.{layer}.{_HF_NAMES[rest.removesuffix('.weight')]}.weight"
    return top.get(name, "lm_head.weight")


def hf_model(params: ModelParams, *, tied: bool) -> LlamaForCausalLM:
    """A random model of this shape, with norms that differ from one and weights that matter."""
    rope = {"rope_theta": params.rope_theta, "rope_type": "default"}
    if params.use_scaled_rope:
        rope |= {
            "rope_type": "llama3", "factor": params.rope_scale_factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }  # fmt: skip
    config = LlamaConfig(
        vocab_size=params.vocab_size, hidden_size=params.dim, intermediate_size=params.ffn_dim,
        num_hidden_layers=params.n_layers, num_attention_heads=params.n_heads, num_key_value_heads=params.kv_heads,
        max_position_embeddings=params.max_seq_len, rms_norm_eps=params.norm_eps, tie_word_embeddings=tied,
        rope_parameters=rope, bos_token_id=None, eos_token_id=None, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(3)
    model = LlamaForCausalLM(config).eval().float()
    with torch.no_grad():
        for parameter in model.parameters():
            scale = parameter.shape[-1] ** -0.5
            parameter.copy_(
                1 + torch.rand_like(parameter) if parameter.dim() == 1 else torch.randn_like(parameter) * scale
            )
    return model


def twin(theirs: LlamaForCausalLM, params: ModelParams, *, tied: bool, dropout: Dropout | None = None) -> Transformer:
    """Our model with the weights of theirs, q and k in Meta's order."""
    ours = Transformer(params, tied=tied, dropout=dropout).eval()
    state, heads = theirs.state_dict(), {"wq": params.n_heads, "wk": params.kv_heads}
    for name, parameter in ours.named_parameters():
        value = state[hf_name(name)]
        kind = name.split(".")[-2]
        parameter.data.copy_(unpermute_rows(value, heads[kind]) if kind in heads else value)
    return ours


def tiny(params: ModelParams = LLAMA_3, *, tied: bool = False, dropout: Dropout | None = None) -> Transformer:
    """A random model of ours."""
    return twin(hf_model(params, tied=tied), params, tied=tied, dropout=dropout)


def tokens(*shape: int, vocab_size: int = LLAMA_3.vocab_size) -> Tensor:
    """Token ids, the same each time."""
    return torch.randint(0, vocab_size, shape, generator=torch.Generator().manual_seed(11))


def logits(model: Transformer, ids: Tensor, *lengths: int) -> Tensor:
    """Logits (s, vocab_size) of ids (s,), laid out as documents of these lengths or as one."""
    return model.logits(model(ids[None], Documents([[n] for n in lengths or (len(ids),)])))[0]
