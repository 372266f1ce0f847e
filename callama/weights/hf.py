"""Hugging Face folders: config.json, sharded safetensors, tokenizer, chat template.

The configuration is written in transformers 4's words, which transformers 5 reads too (``rope_theta`` and
``rope_scaling`` at the top level); both these and transformers 5's
``rope_parameters`` are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from reprlib import repr as short
from typing import Any

import torch

from callama.common.errors import CallamaError
from callama.common.files import Checksums, atomic_folder, read_json, read_manifest, write_json
from callama.common.progress import Meter
from callama.contract import tool_uses
from callama.model.params import MAX_CONTEXT, ModelParams
from callama.text.chat_template import chat_template
from callama.text.hf_tokenizer import require_ids, spec_of, with_marks
from callama.text.markup import LLAMA3, markup_of
from callama.text.render import Renderer
from callama.text.tokenizer import Tokenizer
from callama.weights.lazy import Lazy, cast, check_files, same_numbers
from callama.weights.names import EMBEDDING, OUTPUT, ffn_keys, from_hf_order, hf_name, to_hf_order
from callama.weights.native import TOKENIZER_JSON, own_facts
from callama.weights.pth import open_pth
from callama.weights.safe import INDEX_SUFFIX, open_safetensors, open_sharded, save_sharded
from callama.weights.seal import require_as_written
from callama.weights.source import Source, check_state, dtype_word, expected_shapes, find_tokenizer
from callama.weights.tokenizers import loaded_tokenizer

CONFIG = "config.json"
SHARD_BYTES = 5_000_000_000
_LLAMA3_ROPE = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_TORCH_WORDS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_PAD = ("<|finetune_right_pad_id|>", "<|endoftext|>")
_EOM = "<|eom_id|>"
_PLAIN = {"attention_bias": False, "mlp_bias": False, "hidden_act": "silu", "quantization_config": None,
          "partial_rotary_factor": 1.0, "sliding_window": None, "is_causal": True}  # fmt: skip


_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size",
          "max_position_embeddings")  # fmt: skip


def open_hf(folder: Path) -> Source:
    """A Llama model as Hugging Face's tools write it.

    Raises:
        UsageError: a file is missing.
        CallamaError: another architecture, or files that are damaged or disagree.
    """
    params = _read_config(folder / CONFIG)
    found = _weights(folder)
    names = {hf_name(name): name for name in expected_shapes(params, tied=False)}
    if unknown := sorted(name for name in set(found) - set(names) if not name.endswith("rotary_emb.inv_freq")):
        raise CallamaError(f"{folder}: tensor {unknown[0]} is not part of a Llama model of {params.n_layers} layers")
    renamed = {name: found[theirs] for theirs, name in names.items() if theirs in found}
    check_state(folder, renamed, params, str(folder / CONFIG))
    tied = read_json(folder / CONFIG, "").get("tie_word_embeddings", False)
    if tied and OUTPUT in renamed:
        pair = renamed.pop(OUTPUT), renamed[EMBEDDING]
        wider = torch.promote_types(*(tensor.dtype for tensor in pair))
        if not same_numbers(*(cast(tensor, wider) for tensor in pair)):
            raise CallamaError(f"{folder}: {CONFIG} says tie_word_embeddings, but lm_head.weight is another matrix")
    elif not tied and OUTPUT not in renamed:
        raise CallamaError(f"{folder} lacks lm_head.weight, and {CONFIG} does not say tie_word_embeddings")
    tensors = {name: from_hf_order(name, tensor, params) for name, tensor in renamed.items()}
    require_as_written(folder / CONFIG)
    source = Source("Hugging Face folder", folder, params, tensors, None, read_manifest(folder))
    # Beside it may lie the tokenizer.model that it was once made from, without what was added or renamed since.
    own = folder / TOKENIZER_JSON
    if not own.is_file():
        return replace(source, tokenizer=find_tokenizer(folder))
    spec = spec_of(own)
    require_ids(spec, folder, "if the model was trained with that library, put its ids into the file")
    return replace(source, tokenizer=spec)


def _weights(folder: Path) -> dict[str, Lazy]:
    pytorch = [folder / f"pytorch_model.bin{suffix}" for suffix in ("", INDEX_SUFFIX)]
    if any(path.is_file() for path in pytorch) and not list(folder.glob("model*.safetensors")):
        return open_sharded(folder, "pytorch_model", ".bin", open_pth)
    return open_sharded(folder, "model", ".safetensors", open_safetensors)


def _read_config(path: Path) -> ModelParams:
    raw = read_json(path, "Hugging Face's model configuration")
    if not isinstance(raw, Mapping) or raw.get("model_type") != "llama":
        kind = raw.get("model_type") if isinstance(raw, Mapping) else raw
        raise CallamaError(f"{path}: model_type is {kind!r}; callama reads 'llama'")
    for key in ("rope_scaling", "rope_parameters"):
        if not isinstance(raw.get(key) or {}, Mapping):
            raise CallamaError(f"{path}: {key} must be an object, found {short(raw[key])}")
    for part in (raw, raw.get("rope_scaling") or {}, raw.get("rope_parameters") or {}):
        for key, plain in _PLAIN.items():
            if part.get(key, plain) != plain:
                raise CallamaError(f"{path}: {key} is {short(part[key])}; callama's Llama has {plain!r}")
    rope = {"rope_theta": raw.get("rope_theta", 10_000.0), **(raw.get("rope_scaling") or {})}
    newer = raw.get("rope_parameters") or {}
    if raw.get("rope_scaling") and any(rope.get(key) != value for key, value in newer.items()):
        raise CallamaError(
            f"{path}: rope_scaling and rope_parameters disagree; take out the one that is not the model's"
        )
    try:
        rope |= newer
        # At the top level it is what transformers goes by.
        rope |= {key: raw[key] for key in ("original_max_position_embeddings",) if key in raw}
        for key in _SIZES:
            if type(raw[key]) is not int or not 0 < raw[key] <= MAX_CONTEXT:
                raise ValueError(f"{key} must be a whole number above zero, at most 2^31, found {short(raw[key])}")
        dim, heads, width = raw["hidden_size"], raw["num_attention_heads"], raw.get("head_dim")
        if width is not None and (type(width) is not int or width * heads != dim):
            raise ValueError(f"head_dim {short(width)} times {heads} heads is not hidden_size {dim}")
        meta = {
            "dim": dim, "n_layers": raw["num_hidden_layers"], "n_heads": heads,
            "n_kv_heads": raw.get("num_key_value_heads", heads), "vocab_size": raw["vocab_size"],
            "norm_eps": raw["rms_norm_eps"], "rope_theta": rope["rope_theta"],
            **ffn_keys(dim, raw["intermediate_size"]),
        }  # fmt: skip
        scaled = _is_scaled(rope)
        if scaled:
            meta["use_scaled_rope"] = True
        params = ModelParams.from_meta(meta, max_seq_len=raw["max_position_embeddings"])
        params = replace(params, rope_theta=float(params.rope_theta))
        return params.scaled_by(rope["factor"]) if scaled else params
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        said = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise CallamaError(f"{path}: {said}") from None


def _is_scaled(rope: Mapping[str, Any]) -> bool:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return False
    if kind != "llama3" or any(rope.get(key) != value for key, value in _LLAMA3_ROPE.items()):
        raise ValueError(f"RoPE is scaled by {kind!r}; callama knows Llama 3.1's scaling only")
    return True


def write_hf(folder: Path, source: Source, shard_bytes: int) -> None:
    """Writes a folder that transformers loads as it is; it was run with no other engine.

    Raises:
        CallamaError: the tokenizer belongs to another model.
    """
    tokenizer = loaded_tokenizer(source)
    tensors = {hf_name(n): to_hf_order(n, t, source.params) for n, t in source.tensors.items()}
    facts = {"kind": "Hugging Face folder", **own_facts(source.params), **source.origin()}
    checksums: dict[str, Checksums] = {}
    with atomic_folder(folder, facts, checksums) as temporary, Meter("writing", source.nbytes, "bytes") as meter:
        ids = _special_ids(tokenizer, source.params) if tokenizer else {}
        write_json(temporary / CONFIG, _config(source, ids))
        write_json(temporary / "generation_config.json", ids)
        if tokenizer and source.tokenizer:
            spec = spec_of(source.tokenizer)
            require_ids(spec, source.path, "convert --to native or gguf instead")
            write_json(temporary / TOKENIZER_JSON, _with_begin(with_marks(spec), tokenizer))
            write_json(temporary / "tokenizer_config.json", _tokenizer_config(tokenizer, source.params))
            (temporary / "chat_template.jinja").write_text(chat_template(tokenizer), encoding="utf-8")
        checksums.update(save_sharded(temporary, tensors, shard_bytes, meter.advance))
        check_files(tensors.values())


def stop_ids(tokenizer: Tokenizer, params: ModelParams) -> list[int]:
    """All ids that end an answer; the first Llama 3 does not know ``<|eom_id|>``, later ones do."""
    ids = Renderer(tokenizer).stop_ids
    if markup_of(tokenizer) is LLAMA3 and not params.use_scaled_rope:
        ids -= {tokenizer.special(_EOM)}
    return sorted(ids)


def _special_ids(tokenizer: Tokenizer, params: ModelParams) -> dict[str, Any]:
    markup, specials = markup_of(tokenizer), tokenizer.special_tokens
    first = markup.begin or markup.header
    pad = next((specials[name] for name in _PAD if name in specials), None)
    out = {"bos_token_id": specials[first[0].text], "eos_token_id": stop_ids(tokenizer, params)}
    return out if pad is None else {**out, "pad_token_id": pad}


def _config(source: Source, ids: Mapping[str, Any]) -> dict[str, Any]:
    params = source.params
    rope = {"rope_type": "llama3", "factor": params.rope_scale_factor, **_LLAMA3_ROPE}
    word = dtype_word(source.tensors)
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": _TORCH_WORDS.get(word, word),
        "hidden_size": params.dim, "intermediate_size": params.ffn_dim, "num_hidden_layers": params.n_layers,
        "num_attention_heads": params.n_heads, "num_key_value_heads": params.kv_heads, "head_dim": params.head_dim,
        "vocab_size": params.vocab_size, "max_position_embeddings": params.max_seq_len,
        "rms_norm_eps": params.norm_eps, "rope_theta": params.rope_theta,
        "rope_scaling": rope if params.use_scaled_rope else None, "tie_word_embeddings": source.tied,
        "hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "attention_dropout": 0.0,
        "initializer_range": 0.02, "use_cache": True, **(ids or {"bos_token_id": None, "eos_token_id": None}),
    }  # fmt: skip


def _tokenizer_config(tokenizer: Tokenizer, params: ModelParams) -> dict[str, Any]:
    markup, specials = markup_of(tokenizer), tokenizer.special_tokens
    return {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": (markup.begin or markup.header)[0].text,
        "eos_token": markup.end, "pad_token": next((name for name in _PAD if name in specials), markup.end),
        "model_max_length": params.max_seq_len, "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False, "callama_dialect": tool_uses.NAME,
    }  # fmt: skip


def _with_begin(spec: dict[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """Plain text starts with ``<|begin_of_text|>`` where the family has one, as in Meta's own export."""
    if not (begin := markup_of(tokenizer).begin):
        return spec
    name = begin[0].text
    single, pair = ({"SpecialToken": {"id": name, "type_id": t}} for t in (0, 1))
    first, second = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    template = {
        "type": "TemplateProcessing", "single": [single, first], "pair": [single, first, pair, second],
        "special_tokens": {name: {"id": name, "ids": [tokenizer.special(name)], "tokens": [name]}},
    }  # fmt: skip
    return {**spec, "post_processor": template}
