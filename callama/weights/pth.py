"""torch's zip format, a tensor at a time: an index of what lies where, and a writer that streams.

``torch.load`` builds all tensors and ``torch.save`` wants all of them at once; a conversion needs
neither. The pickle inside is read by an unpickler that knows seven names and makes descriptions
instead of tensors: no code of the file is run, and none of torch's. Numbers are held against the
archive's checksums while they are read. What is written is what ``torch.save`` writes (pytorch,
``torch/serialization.py``, ``_save``), 64-byte alignment included.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from reprlib import repr as short
from typing import Any, NamedTuple

import torch
from torch import Tensor

from callama.common.errors import CallamaError
from callama.common.files import Checksums, HashingFile, require_file, sha256_file
from callama.weights.lazy import Lazy, finite, of_file, read_ahead
from callama.weights.seal import SourceFile, changed, index_crc_in_manifest

_STORAGES = {
    torch.float32: torch.FloatStorage,
    torch.bfloat16: torch.BFloat16Storage,
    torch.float16: torch.HalfStorage,
    torch.float64: torch.DoubleStorage,
}
_DTYPES = {("torch", storage.__name__): dtype for dtype, storage in _STORAGES.items()}
_ALIGNMENT = 64
_LOCAL_HEADER_BYTES = 30
_NO_CHECKSUM = 0  # what torch stores when told not to compute them (torch.serialization.set_crc32_options)
_NUMBERING = ("PUT", "BINPUT", "LONG_BINPUT")
_SIZES_FOLLOW = 0x08  # zip's flag: size and checksum stand behind the data


class _Storage(NamedTuple):
    dtype: torch.dtype
    key: str
    numel: int


class _Described(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def _describe(storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> _Described:
    if not all(type(n) is int and n >= 0 for n in (offset, *shape, *stride)):
        raise pickle.UnpicklingError(f"a tensor's place is not in whole numbers: {short((offset, shape, stride))}")
    return _Described(storage, offset, shape, stride)


def _describe_parameter(described: _Described, *_: Any) -> _Described:
    return described


class _IndexUnpickler(pickle.Unpickler):
    """Builds ``_Described`` where torch would build tensors; refuses every other name."""

    _known: Mapping[tuple[str, str], Any] = {
        ("torch._utils", "_rebuild_tensor_v2"): _describe,
        ("torch._utils", "_rebuild_parameter"): _describe_parameter,
        ("collections", "OrderedDict"): OrderedDict,
        **_DTYPES,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._known:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which plain tensors do not need")
        return self._known[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, numel = pid
        if kind != "storage" or dtype not in _STORAGES:
            raise pickle.UnpicklingError("it holds storages of a kind that no checkpoint needs")
        return _Storage(dtype, key, numel)


def require_zip(path: Path) -> None:
    """Makes sure that a file is what torch has saved since 1.6, and no other than callama wrote here.

    Raises:
        UsageError: the file is missing.
        CallamaError: it is cut short, of another kind, or not the file that the manifest beside it tells of.
    """
    require_file(path, "a state dict written by torch.save")
    expected = index_crc_in_manifest(path)
    try:
        found = zipfile.is_zipfile(path)
        if found and expected is not None:
            with zipfile.ZipFile(path) as archive:
                if _index_crc32(archive) != expected:
                    raise changed(path, "list of tensors and their CRC-32s")
    except (zipfile.BadZipFile, ValueError):  # a directory at the end that says impossible things
        found = False
    if not found:
        raise CallamaError(
            f"{path} is not in torch's zip format: it is cut short, of another kind, or saved by torch before 1.6; "
            "copy or download it again"
        )


def _index_crc32(archive: zipfile.ZipFile) -> str:
    """The CRC-32 of the members' names, sizes and CRC-32s: in two archives it is the same only where all content is."""
    members = "".join(f"{info.filename} {info.file_size} {info.CRC:08x}\n" for info in archive.infolist())
    return f"{zlib.crc32(members.encode()):08x}"


def contents(path: Path) -> str:
    """What tells an archive from every other without reading its numbers: the CRC-32 of the list of its members, in
    which each has its own; of one without them, the file's sha256.

    Raises:
        UsageError, CallamaError: what ``require_zip`` finds.
    """
    require_zip(path)
    with zipfile.ZipFile(path) as archive:
        listed = all(info.CRC != _NO_CHECKSUM or not info.file_size for info in archive.infolist())
        return _index_crc32(archive) if listed else sha256_file(path)


def open_pth(path: Path) -> dict[str, Lazy]:
    """What a state dict written by ``torch.save`` holds, by name; numbers are read when asked for.

    Raises:
        UsageError: the file is missing.
        CallamaError: it is damaged, or holds anything but a dict of plain tensors.
    """
    require_zip(path)
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
            index = _content(file, members["data.pkl"])
            _check_memo(index)
            state = _IndexUnpickler(io.BytesIO(index)).load()
            order = _content(file, members["byteorder"]) if "byteorder" in members else b"little"
            if not isinstance(state, dict) or not all(
                isinstance(k, str) and isinstance(v, _Described) for k, v in state.items()
            ):
                raise CallamaError(f"{path} must hold a state dict: names and tensors, nothing else")
            if order != b"little":
                raise CallamaError(f"{path} was saved on a machine of another byte order ({order!r})")
            source = SourceFile(path)
            found = {name: _locate(source, file, members, name, described) for name, described in state.items()}
    except CallamaError:
        raise
    except Exception as error:  # the pickle virtual machine raises nearly anything on damaged bytes
        reason = str(error) or type(error).__name__
        raise CallamaError(f"{path} cannot be read as a checkpoint of plain tensors: {reason}") from None
    return found


def _check_memo(index: bytes) -> None:
    """Makes sure that a pickle numbers no more objects than it can have, because the unpickler takes memory for as many
    as the largest number says: five bytes could ask for 34 GB."""
    for operation, number, _ in pickletools.genops(index):
        if operation.name in _NUMBERING and number is not None and not 0 <= number < len(index):
            raise pickle.UnpicklingError(f"it numbers an object {number:,}, but has only {len(index):,} bytes")


def _start(file: Any, info: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin."""
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER_BYTES)
    if len(header) != _LOCAL_HEADER_BYTES or header[:4] != b"PK\x03\x04" or info.compress_type != zipfile.ZIP_STORED:
        raise pickle.UnpicklingError(f"{info.filename} does not lie where the directory says")
    names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return info.header_offset + _LOCAL_HEADER_BYTES + names


def _content(file: Any, info: zipfile.ZipInfo) -> bytes:
    file.seek(_start(file, info))
    content: bytes = file.read(info.file_size)
    if info.CRC not in (_NO_CHECKSUM, zlib.crc32(content)):
        raise pickle.UnpicklingError(f"{info.filename} does not have the checksum that was stored with it")
    return content


def _checked(tensor: Lazy, path: Path, name: str, expected: int) -> Lazy:
    """The same, held against a CRC-32 whenever it is read from its first row to its last."""
    row, found = 0, 0

    def read(start: int, stop: int) -> Tensor:
        nonlocal row, found
        rows = tensor.read(start, stop)
        if start == 0:
            row, found = 0, 0
        if start == row:
            row, found = stop, zlib.crc32(raw_bytes(rows), found)
            if row == tensor.shape[0] and found != expected:
                raise CallamaError(
                    f"{path} is damaged: tensor {name} does not have the checksum that was stored with it; "
                    "copy or download the file again"
                )
        return rows

    return replace(tensor, read=read)


def _locate(
    source: SourceFile, file: Any, members: Mapping[str, zipfile.ZipInfo], name: str, tensor: _Described
) -> Lazy:
    storage, shape = tensor.storage, tuple(tensor.shape)
    info = members[f"data/{storage.key}"]
    if info.file_size != storage.numel * storage.dtype.itemsize:
        raise pickle.UnpicklingError(f"storage {storage.key} has another size than its description")
    start = _start(file, info)
    packed, numel = _packed_strides(shape), math.prod(shape)
    if not shape or tensor.offset < 0 or tensor.offset + numel > storage.numel:
        raise pickle.UnpicklingError(f"a tensor of shape {shape} lies outside its storage")
    if any(n > 1 and found != step for n, found, step in zip(shape, tensor.stride, packed, strict=True)):
        raise pickle.UnpicklingError(f"a tensor of shape {shape} is a view with strides {tensor.stride}")
    found = of_file(source, start + tensor.offset * storage.dtype.itemsize, shape, storage.dtype)
    if info.CRC != _NO_CHECKSUM and numel == storage.numel:
        found = _checked(found, source.path, name, info.CRC)
    return finite(found, source.path, name)


def _packed_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


class _Stub:
    """Stands for a tensor in the pickle; reduces to torch's call."""

    def __init__(self, storage: _Storage, shape: tuple[int, ...]) -> None:
        self.storage, self.shape = storage, shape

    def __reduce__(self) -> tuple[Any, ...]:
        strides = _packed_strides(self.shape)
        rebuild = torch._utils._rebuild_tensor_v2
        return rebuild, (_StorageStub(self.storage), 0, self.shape, strides, False, OrderedDict())


class _StorageStub:
    def __init__(self, storage: _Storage) -> None:
        self.storage = storage


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, _StorageStub):
            dtype, key, numel = obj.storage
            return ("storage", _STORAGES[dtype], key, "cpu", numel)
        return None


class PthWriter:
    """Writes a state dict whose shapes are known and whose numbers come one block at a time.

    Use as a context manager; every tensor must be written, one after the other, with ``tensor``.
    """

    def __init__(self, path: Path, tensors: Mapping[str, Lazy]) -> None:
        """``tensors`` give names, shapes and dtypes, in the order of the state dict."""
        self._file = HashingFile(path, with_crc32=False)  # an archive has that of each member
        self._archive = zipfile.ZipFile(self._file, "w")
        self._index_crc32: str | None = None
        self._keys = {name: str(i) for i, name in enumerate(tensors)}
        self._bytes = {name: tensor.nbytes for name, tensor in tensors.items()}
        state = {
            name: _Stub(_Storage(t.dtype, self._keys[name], t.nbytes // t.dtype.itemsize), t.shape)
            for name, t in tensors.items()
        }
        pickled = io.BytesIO()
        _Pickler(pickled, protocol=2).dump(state)
        self._small("data.pkl", pickled.getvalue())
        self._small("byteorder", b"little")

    def __enter__(self) -> PthWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._small("version", b"3\n")
                self._archive.close()
                self._index_crc32 = _index_crc32(self._archive)
        finally:
            # An archive that was not closed would try to finish the file when it is collected.
            self._archive.fp = None
            self._file.close()

    @property
    def checksums(self) -> Checksums:
        """Of the whole file, once it is closed."""
        return self._file.checksums._replace(index_crc32=self._index_crc32)

    def _info(self, name: str, size: int) -> tuple[zipfile.ZipInfo, bool]:
        """The member's header, padded so that its data starts at a multiple of 64."""
        info = zipfile.ZipInfo(f"archive/{name}")
        info.file_size, info.flag_bits = size, _SIZES_FOLLOW
        zip64 = size >= (1 << 30)
        start = self._file.tell() + len(info.FileHeader(zip64)) + 4
        padding = -start % _ALIGNMENT
        info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
        return info, zip64

    def _small(self, name: str, data: bytes) -> None:
        info, _ = self._info(name, len(data))
        with self._archive.open(info, "w") as member:
            member.write(data)

    @contextmanager
    def tensor(self, name: str) -> Iterator[Any]:
        """Yields a function that appends the next rows of a tensor."""
        info, zip64 = self._info(f"data/{self._keys[name]}", self._bytes[name])
        with self._archive.open(info, "w", force_zip64=zip64) as member:

            def write(block: Tensor) -> None:
                member.write(raw_bytes(block))

            yield write


def raw_bytes(block: Tensor) -> memoryview:
    """A tensor's bytes in the machine's order, wherever it lies."""
    array: Any = block.contiguous().cpu().view(torch.uint8).numpy()
    return memoryview(array.reshape(-1))


def save_pth(path: Path, tensors: Mapping[str, Lazy], advance: Any = None) -> Checksums:
    """Writes a state dict, block by block; returns the file's checksums."""
    with PthWriter(path, tensors) as writer:
        for name, blocks in read_ahead(tensors):
            with writer.tensor(name) as write:
                for block in blocks:
                    write(block)
                    if advance:
                        advance(block.nbytes)
    return writer.checksums
