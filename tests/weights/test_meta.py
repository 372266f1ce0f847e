"""Meta's shards: cut along the right dimension, put together bit for bit, refused when they do not fit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from callama.common.errors import CallamaError, UsageError
from callama.model.attend import Documents
from callama.weights.convert import convert
from callama.weights.meta import open_meta, split_dim, write_meta
from callama.weights.native import build_model, open_native, read_native
from tests.fetch import fairscale_dir, llama_models_dir
from tests.weights.formats import SHAPE, disown, same, snapshot, write_model


def exported(root: Path, count: int = 2, family: str = "Llama 3") -> tuple[Path, dict[str, Tensor]]:
    native, state = write_model(root, family)
    write_meta(root / "meta", open_native(native), count)
    return root / "meta", state


def shard(folder: Path, number: int) -> dict[str, Tensor]:
    return torch.load(folder / f"consolidated.{number:02}.pth", weights_only=True)


@pytest.mark.parametrize("count", [1, 2, 4, 8])
@pytest.mark.parametrize("family", ["Llama 3", "Llama 3.1", "Llama 3.2"])
def test_native_to_meta_to_native_is_bit_identical(tmp_path: Path, family: str, count: int) -> None:
    if count == 8 and family != "Llama 3":
        with pytest.raises(UsageError, match="8 shards are not possible: n_kv_heads is 4, which 8 does not divide"):
            exported(tmp_path, count, family)
        return
    meta, state = exported(tmp_path, count, family)
    before = snapshot(meta)
    assert sum(name.endswith(".pth") for name in before) == count
    convert(meta, tmp_path / "back", "native")
    assert snapshot(meta) == before
    first, second = read_native(tmp_path / "native"), read_native(tmp_path / "back")
    assert same(second.state, state) and second.params == first.params and second.tied == first.tied
    assert (tmp_path / "back" / "tokenizer.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()
    write_meta(tmp_path / "again", open_native(tmp_path / "back"), count)
    for number in range(count):
        assert same(shard(tmp_path / "again", number), shard(meta, number))


def test_trap_23_every_tensor_is_cut_as_metas_layers_are(tmp_path: Path) -> None:
    meta, state = exported(tmp_path, 4)
    shards = [shard(meta, i) for i in range(4)]
    dims = {"tok_embeddings": 0, "output": 0, "wq": 0, "wk": 0, "wv": 0, "w1": 0, "w3": 0, "wo": 1, "w2": 1}
    for name, tensor in state.items():
        dim = dims.get(name.split(".")[-2])
        assert dim == split_dim(name)
        for i, part in enumerate(shards):
            assert torch.equal(part[name], tensor if dim is None else tensor.chunk(4, dim)[i]), name


def test_a_name_without_a_dot_is_no_tensor_of_llama(tmp_path: Path) -> None:
    meta, _ = exported(tmp_path, 2)
    for number in range(2):
        torch.save({**shard(meta, number), "odd": torch.ones(2, 2)}, meta / f"consolidated.{number:02}.pth")
        disown(meta / f"consolidated.{number:02}.pth")
    with pytest.raises(CallamaError, match="has an unexpected tensor odd"):
        open_meta(meta)


def test_trap_24_params_json_is_what_metas_loaders_accept(tmp_path: Path) -> None:
    meta, _ = exported(tmp_path, 2, "Llama 3.1")
    params = json.loads((meta / "params.json").read_text())
    assert set(params) == {
        "dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "multiple_of", "ffn_dim_multiplier", "norm_eps",
        "rope_theta", "use_scaled_rope",
    }  # fmt: skip


def test_trap_26_a_tied_model_gets_a_copy_of_its_embedding_for_metas_loader(tmp_path: Path) -> None:
    meta, state = exported(tmp_path, 1, "Llama 3.2")
    assert torch.equal(shard(meta, 0)["output.weight"], state["tok_embeddings.weight"])
    assert open_meta(meta).tied and open_meta(meta).params.rope_scale_factor == 32.0


def test_trap_26_metas_own_code_has_one_factor_for_all_which_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(tmp_path, 1, "Llama 3.1")
    exported(tmp_path, 1, "Llama 3")
    assert "note:" not in capsys.readouterr().err
    meta, _ = exported(tmp_path, 1, "Llama 3.2")
    said = capsys.readouterr().err
    assert "note: this model stretches RoPE 32-fold, which Meta's params.json cannot say" in said
    assert f"callama reads it from {meta / 'MANIFEST.json'}: keep that file" in said


def test_norms_that_differ_a_little_between_ranks_are_taken_from_the_first(tmp_path: Path) -> None:
    meta, state = exported(tmp_path, 2)
    second = shard(meta, 1)
    disown(meta / "consolidated.01.pth")
    torch.save({n: t * 1.01 if n.endswith("norm.weight") else t for n, t in second.items()},
               meta / "consolidated.01.pth")  # fmt: skip
    assert same(open_meta(meta).tensors, state)


def drop(meta: Path) -> None:
    (meta / "consolidated.01.pth").unlink()


def drop_last(meta: Path) -> None:
    (meta / "consolidated.03.pth").unlink()


def other_norms(meta: Path) -> None:
    torch.save({n: t * 2 if "norm" in n else t for n, t in shard(meta, 1).items()}, meta / "consolidated.01.pth")


def other_shape(meta: Path) -> None:
    torch.save({n: t[:-1] if "wq" in n else t for n, t in shard(meta, 1).items()}, meta / "consolidated.01.pth")


def other_names(meta: Path) -> None:
    torch.save({f"x{n}": t for n, t in shard(meta, 1).items()}, meta / "consolidated.01.pth")


def cut_short(meta: Path) -> None:
    path = meta / "consolidated.02.pth"
    path.write_bytes(path.read_bytes()[:-1000])


def columns(meta: Path) -> None:
    """As the original project's script cuts it."""
    whole = torch.cat([shard(meta, i)["tok_embeddings.weight"] for i in range(4)])
    (meta / "MANIFEST.json").unlink()
    for i, part in enumerate(whole.chunk(4, dim=1)):
        torch.save({**shard(meta, i), "tok_embeddings.weight": part.clone()}, meta / f"consolidated.0{i}.pth")


def other_params(meta: Path) -> None:
    path = meta / "params.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "n_layers": 3}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop, r"lacks consolidated\.01\.pth; it has 3 other shards"),
        (drop_last, r"has 3 of 4 shards: each holds 100 of the 400 rows"),
        (
            other_norms,
            r"consolidated\.01\.pth and consolidated\.00\.pth are shards of different models: .*norm",
        ),
        (other_shape, r"are shards of different models: layers\.0\.attention\.wq\.weight is"),
        (other_names, r"are shards of different models: only one has"),
        (columns, r"tok_embeddings\.weight is cut along its columns, as the original project's script does"),
        (cut_short, r"consolidated\.02\.pth is not in torch's zip format: it is cut short"),
        (other_params, r"lacks tensor layers\.2\.\S+ by the shape in .*params\.json"),
    ],
)
def test_shards_that_do_not_fit_are_refused(tmp_path: Path, damage: object, message: str) -> None:
    meta, _ = exported(tmp_path, 4)
    disown(meta / "consolidated.01.pth")
    damage(meta)  # type: ignore[operator]
    before = snapshot(tmp_path)
    with pytest.raises(CallamaError, match=message):
        convert(meta, tmp_path / "out", "native")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("count", [0, 3, 16])
def test_other_numbers_of_shards_are_wrong_use(tmp_path: Path, count: int) -> None:
    with pytest.raises(UsageError, match="the number of shards must be one of 1, 2, 4, 8"):
        exported(tmp_path, count)


META_RANK = """
import sys, json, os
sys.path[:0] = sys.argv[1].split(":")
import torch, torch.distributed as dist
from fairscale.nn.model_parallel.initialize import initialize_model_parallel
from llama_models.llama3.args import ModelArgs
from llama_models.llama3.model import Transformer
folder, rank, world, out = sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
dist.init_process_group("gloo", init_method="file://" + out + ".rendezvous", rank=rank, world_size=world)
initialize_model_parallel(world)
params = json.loads(open(folder + "/params.json").read())
model = Transformer(ModelArgs(max_seq_len=64, max_batch_size=1, **params))
state = torch.load(f"{folder}/consolidated.{rank:02}.pth", map_location="cpu", weights_only=True)
model.load_state_dict(state, strict=True)
logits = model.float()(torch.arange(24)[None] * 7 % params["vocab_size"], 0)
if rank == 0:
    torch.save(logits[0], out)
# A process that Python takes apart while gloo's threads still run may be aborted.
dist.barrier()
os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("count", "family"), [(1, "Llama 3"), (2, "Llama 3"), (2, "Llama 3.1")])
def test_metas_own_model_loads_the_shards_and_gives_our_logits(tmp_path: Path, count: int, family: str) -> None:
    meta, _ = exported(tmp_path, count, family)
    places = f"{llama_models_dir()}:{fairscale_dir()}"
    out = tmp_path / "logits.pt"
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", META_RANK, places, str(meta), str(rank), str(count), str(out)],
            stderr=subprocess.PIPE, text=True,
        )
        for rank in range(count)
    ]  # fmt: skip
    said = [rank.communicate(timeout=300)[1] for rank in ranks]
    assert all(rank.returncode == 0 for rank in ranks), said
    model = build_model(read_native(tmp_path / "native"), dtype=torch.float32).eval()
    ids = torch.arange(24) * 7 % SHAPE.vocab_size
    with torch.no_grad():
        ours = model.logits(model(ids[None], Documents([[24]])))[0]
    assert (ours - torch.load(out, weights_only=True)).abs().max() <= 1e-4
