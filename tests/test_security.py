"""What SECURITY.md promises: no call that runs what a file says, and hostile files are refused by their readers."""

import ast
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from backbone.faceres import read_faceres
from backbone.formats import read_state, read_tensors
from datasets.classification.class_folders import open_labelled
from datasets.classification.matlab import read_matlab
from datasets.detection.read import open_detection
from datasets.geolocation.places import open_places
from datasets.images.read import read_image
from datasets.onnx_runtime import import_onnxruntime
from datasets.segmentation.masks import MaskCoding, read_mask
from tasks.attributes.config import AttributesConfig
from tasks.common.deploy.session import open_session
from tasks.common.deploy.web_page import TEMPLATES
from tasks.common.model import neighbours
from tasks.common.runs.checkpoint import load_checkpoint
from tasks.common.settings import read_config
from tasks.detection.graph_def import read_constants
from tasks.embedding.gallery import Entry, Gallery, photo_ids
from tests.conftest import REPOSITORY
from tests.datasets.strategies import JPEG
from tests.fuzz.damage import Tree, with_png_checksums
from tests.fuzz.harness import NEEDS_PROC, Reader, run_cases
from tests.fuzz.readers import COCO, IMAGE, STATE, whole, written
from tests.test_layers import MODULES

# What runs a file's content as a program, whatever its arguments.
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {
    *("eval", "exec", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.jit.load", "torch.package.PackageImporter"),
    *("shutil.unpack_archive", "tempfile.mktemp", "numpy.fromregex", "pandas.read_pickle"),
}
FORBIDDEN_METHODS = {"extractall", "extract"}  # of archives, which would write where these say
NEEDED = {"torch.load": ("weights_only", "True"), "numpy.load": ("allow_pickle", "False")}
ONLY_IN = {
    "urllib.request.urlopen": {"backbone/published.py"},  # addresses of the table; others go by prediction/web.py
    "faiss.read_index": {"tasks/common/model/neighbours.py"},
    "h5py.File": {"backbone/formats.py"},
}


def unsafe_calls(path: Path) -> list[str]:
    """The lines of a module that could run what a file says."""
    found = []
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    imported = _imported(nodes)
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            if any(name.split(".")[0] in FORBIDDEN_IMPORTS for _, name in _imported([node])):
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.Call):
            first, point, rest = ast.unparse(node.func).partition(".")
            # One name may be several things, in several functions.
            names = {full for name, full in imported if name == first} or {first}
            if not all(_is_safe(node, name + point + rest, path) for name in names):
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def _imported(nodes: Iterable[ast.AST]) -> set[tuple[str, str]]:
    """Names that are imported, and what they are: `t` and `torch`, `load` and `torch.load`."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            found |= {(alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names}
        elif isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name if alias.asname else alias.name.split(".")[0]  # `import os.path` is of `os`
                found.add((alias.asname or name, name))
    return found


def _imports_onnxruntime(path: Path) -> bool:
    """Whether a module imports it otherwise than after `import_onnxruntime` in the same function."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    is_after = {
        statement
        for function in nodes
        if isinstance(function, ast.FunctionDef)
        for row, line in enumerate(function.body)
        if ast.unparse(line) == "import_onnxruntime()"
        for statement in function.body[row:]
    }
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) and node not in is_after]
    return any(name.split(".")[0] == "onnxruntime" for _, name in _imported(imports))


def test_onnxruntime_is_imported_with_its_telemetry_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the one function for it and in the file that stands alone; its telemetry leaves a file when it is on."""
    importing = {module.as_posix() for module in MODULES if _imports_onnxruntime(REPOSITORY / module)}
    assert importing == {"tasks/common/deploy/predictor.py"}
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    words = [sys.executable, REPOSITORY / "tasks/common/deploy/predictor.py", "--help"]
    subprocess.run(words, env=environment | {"TMPDIR": str(tmp_path)}, capture_output=True, check=False)
    assert not list(tmp_path.iterdir())
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    import_onnxruntime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("import onnxruntime", True),
        ("import onnxruntime.quantization as q", True),
        ("from onnxruntime import InferenceSession", True),
        ("from onnxruntime.quantization import quantize_static", True),
        ("def f():\n    from onnxruntime import quantization\n    import_onnxruntime()", True),
        ("def f():\n    import_onnxruntime()\n    from onnxruntime import quantization", False),
        ("import onnx", False),
    ],
)
def test_an_import_of_onnxruntime_is_found(text: str, is_found: bool, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(text, encoding="utf-8")
    assert _imports_onnxruntime(tmp_path / "a.py") == is_found


def test_the_page_knows_no_other_address() -> None:
    for file in TEMPLATES.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://127.0.0.1:8000", "")
        assert "://" not in text, file
        assert '"//' not in text, file


def _is_safe(call: ast.Call, name: str, path: Path) -> bool:
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    texts = {word: ast.unparse(value) for word, value in keywords.items()}
    method = name.rpartition(".")[2]
    if (
        name in FORBIDDEN_CALLS
        or (method in FORBIDDEN_METHODS and "." in name)
        or texts.get("shell", "False") != "False"
    ):
        return False
    if name in NEEDED:
        word, value = NEEDED[name]
        return texts.get(word) == value
    if name.startswith("subprocess."):
        command = call.args[0] if call.args else keywords.get("args")
        return command is None or not _is_text(command)
    if name == "PIL.Image.open":
        return "formats" in keywords or "results/bench" in path.as_posix()  # of the measured data
    return name not in ONLY_IN or any(path.as_posix().endswith(module) for module in ONLY_IN[name])


def _is_text(command: ast.expr) -> bool:
    """Whether it is put together as a text: a command is a list of words."""
    if isinstance(command, ast.BinOp):
        return _is_text(command.left) or _is_text(command.right)
    if isinstance(command, ast.Call) and isinstance(command.func, ast.Attribute):  # "ls {}".format(x)
        return _is_text(command.func.value)
    return isinstance(command, ast.JoinedStr) or (isinstance(command, ast.Constant) and isinstance(command.value, str))


def test_no_module_runs_what_a_file_says() -> None:
    found = {str(module): unsafe_calls(REPOSITORY / module) for module in MODULES}
    assert not {module: calls for module, calls in found.items() if calls}


@pytest.mark.parametrize(
    "text",
    [
        *("import pickle", "from joblib import load", "import torch.x, dill as d", "eval(x)", "exec(x)"),
        *("import torch; torch.load(x)", "import torch; torch.load(x, weights_only=False)"),
        *("import torch as t; t.load(x)", "from torch import load; load(x)", "from torch import load as a; a(x)"),
        "from torch import load; from json import load; load(x)",
        *("import torch.jit; torch.jit.load(x)", "from torch import jit; jit.load(x)"),
        *("import numpy as np; np.load(x)", "import numpy; numpy.load(x, allow_pickle=True)"),
        *("import yaml; yaml.load(x, Loader=y)", "from yaml import load; load(x, y)"),
        *("import os; os.system(x)", "import os.path; os.system(x)", "from os import system; system(x)"),
        *("import subprocess; subprocess.run('ls')", "import subprocess as s; s.run(f'ls {x}')"),
        *("from subprocess import run; run(x, shell=True)", "from subprocess import run; run(x, shell=y)"),
        *("from subprocess import run; run(args='ls')", "from subprocess import Popen; Popen('ls ' + x)"),
        *("from subprocess import run; run('ls %s' % x)", "from subprocess import run; run('ls {}'.format(x))"),
        *("from subprocess import getoutput; getoutput(x)", "archive.extractall()"),
        *("import PIL.Image; PIL.Image.open(x)", "from PIL import Image; Image.open(x)"),
        *("from PIL.Image import open as o; o(x)", "import h5py; h5py.File(x)", "from h5py import File; File(x)"),
        *("import urllib.request; urllib.request.urlopen(x)", "from urllib.request import urlopen; urlopen(x)"),
        *("import faiss; faiss.read_index(x)", "from faiss import read_index as r; r(x)"),
    ],
)
def test_a_call_that_runs_what_a_file_says_is_found(text: str, tmp_path: Path) -> None:
    lines = ["import re", *text.split("; "), "re.compile(x)"]
    (tmp_path / "a.py").write_text("\n".join(lines), encoding="utf-8")
    assert unsafe_calls(tmp_path / "a.py") == [f"line {len(lines) - 1}: {lines[-2]}"]


@pytest.mark.parametrize(
    "text",
    [
        *("import torch as t; t.load(x, weights_only=True)", "from numpy import load; load(x, allow_pickle=False)"),
        *(
            "from json import load; load(x)",
            "from yaml import safe_load; safe_load(x)",
            "from x import Image; Image.open(x)",
        ),
        *("from subprocess import run; run(['ls', x], shell=False)", "from subprocess import run; run([*x, 'ls'] + y)"),
        "from PIL import Image; Image.open(x, formats=y)",
    ],
)
def test_a_call_that_runs_nothing_is_not_found(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(text, encoding="utf-8")
    assert unsafe_calls(tmp_path / "a.py") == []


class Trap:
    """Starts a program when it is unpickled, which the harness sees."""

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, ("true",))


def saved(content: object, *, is_zip: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=is_zip)
    return file.getvalue()


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def deflated_state() -> bytes:
    """10 MB of zeros in 10 kB."""
    with zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(2_500_000)}))) as archive:
        return zipped({name: archive.read(name) for name in archive.namelist()})


def hdf5(fill: Callable[[h5py.File], object]) -> bytes:
    return written(lambda folder: _write_hdf5(folder / "w.h5", fill))["w.h5"]


def _write_hdf5(path: Path, fill: Callable[[h5py.File], object]) -> None:
    with h5py.File(path, "w") as file:
        file["conv1/conv1/kernel:0"] = np.ones((3, 3, 3, 8), np.float32)
        fill(file)


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource("../secret.h5", "a", (4,))
    file.create_virtual_dataset("conv_dw_1/kernel:0", layout)


def tar_of_digits() -> bytes:
    """An extended header in which Python's reader searches for minutes (CVE-2024-6232)."""
    header = tarfile.TarInfo("a")
    header.type, header.size = tarfile.XHDTYPE, 1_000_000
    return header.tobuf(tarfile.USTAR_FORMAT) + b"1" * header.size + bytes(-header.size % 512 + 1024)


def matlab_element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def matlab(element: bytes) -> bytes:
    return bytes(126) + b"IM" + element


def matlab_cells(depth: int, *, sides: Sequence[int] = (1, 1)) -> bytes:
    """Cells within cells, by name file_list."""
    content = b""
    for _ in range(depth):
        flags, dimensions = struct.pack("<II", 1, 0), struct.pack(f"<{len(sides)}i", *sides)
        parts = [matlab_element(6, flags), matlab_element(5, dimensions), matlab_element(1, b"file_list"), content]
        content = matlab_element(14, b"".join(parts))
    return matlab(content)


def png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = IMAGE[:16] + header + IMAGE[29:]
    return with_png_checksums(data)


def jpeg(width: int, height: int) -> bytes:
    start = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:start] + struct.pack(">HH", height, width) + JPEG[start + 4 :]


def external_onnx(location: str) -> bytes:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("length", "16")):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight])
    model: Any = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model.SerializeToString()  # type: ignore[no-any-return]


def endless_tar() -> bytes:
    """A member of negative size, after which Python's reader is at the same member again."""
    member = tarfile.TarInfo("a.jpg")
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 10 + struct.pack(">h", -512)
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * ord(" ") + sum(block[156:]))
    return bytes(block) + bytes(1024)


BILLION = "a0: &a0 [x, x]\n" + "".join(f"a{k}: &a{k} [*a{k - 1}, *a{k - 1}]\n" for k in range(1, 40))
PICKLED = pickle.dumps(Trap())
CODING = MaskCoding(("a",), np.zeros(256, np.int16))
# What is refused: files, and the reader of the command that would open them.
HOSTILE: dict[str, tuple[Callable[[], Tree], Callable[[Path], object]]] = {
    "a pickle as weights": (lambda: {"w.pth": PICKLED}, lambda root: read_state(root / "w.pth")),
    "a pickle among weights": (
        lambda: {"w.pth": saved(STATE | {"x": Trap()})},
        lambda root: read_tensors(root / "w.pth"),
    ),
    "a pickle in the old format": (
        lambda: {"w.bin": saved({"x": Trap()}, is_zip=False)},
        lambda root: read_tensors(root / "w.bin"),
    ),
    "a pickle as safetensors": (lambda: {"w.safetensors": PICKLED}, lambda root: read_state(root / "w.safetensors")),
    "a pickle as HDF5": (lambda: {"w.h5": PICKLED}, lambda root: read_state(root / "w.h5")),
    "a pickle in an array": (
        lambda: {"f.npz": npz(a=np.array([Trap()], object))},
        lambda root: read_faceres(root / "f.npz"),
    ),
    "a pickle as .npz": (lambda: {"f.npz": PICKLED}, lambda root: read_faceres(root / "f.npz")),
    "a pickle as a checkpoint": (
        lambda: {"best.pt": saved({"task": "detection", "model": {}, "x": Trap()})},
        lambda root: load_checkpoint(root / "best.pt"),
    ),
    "a pickle as a graph": (lambda: {"g.pb": PICKLED}, lambda root: read_constants(root / "g.pb")),
    "a pickle as a gallery": (lambda: {"g.faiss": PICKLED}, lambda root: Gallery.read(root / "g.faiss")),
    "compressed weights": (lambda: {"w.pth": deflated_state()}, lambda root: read_tensors(root / "w.pth")),
    "one number as a million million": (
        lambda: {"w.pth": saved({"a": torch.zeros(1).expand(10**6, 10**6)})},
        lambda root: read_tensors(root / "w.pth"),
    ),
    "compressed arrays": (
        lambda: {"f.npz": zipped({"a.npy": bytes(2**27 + 1)})},
        lambda root: read_faceres(root / "f.npz"),
    ),
    "HDF5 of 16 GB": (
        lambda: {
            "w.h5": hdf5(
                lambda file: file.create_dataset("conv_dw_1/a", (2**34,), "u1", chunks=(2**20,), compression="gzip")
            )
        },
        lambda root: read_state(root / "w.h5"),
    ),
    "HDF5 with data elsewhere": (
        lambda: {
            "w.h5": hdf5(lambda file: file.create_dataset("conv_dw_1/a", (4,), "u1", external=[("/etc/passwd", 0, 4)]))
        },
        lambda root: read_state(root / "w.h5"),
    ),
    "HDF5 with data of another HDF5 file": (lambda: {"w.h5": hdf5(virtual)}, lambda root: read_state(root / "w.h5")),
    "ONNX with data above": (
        lambda: {"m.onnx": external_onnx("../secret.bin")},
        lambda root: open_session(root / "m.onnx"),
    ),
    "ONNX with data elsewhere": (
        lambda: {"m.onnx": external_onnx("/etc/passwd")},
        lambda root: open_session(root / "m.onnx"),
    ),
    "a large PNG": (lambda: {"a.png": png(60_000, 60_000)}, lambda root: read_image(root / "a.png")),
    "a large JPEG": (lambda: {"a.jpg": jpeg(65_000, 65_000)}, lambda root: read_image(root / "a.jpg")),
    "a large BMP": (
        lambda: {
            "a.bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
        },
        lambda root: read_image(root / "a.bmp"),
    ),
    "a large PPM": (lambda: {"a.ppm": b"P6 60000 60000 255 "}, lambda root: read_image(root / "a.ppm")),
    "PostScript as a mask": (
        lambda: {"a.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"},
        lambda root: read_mask(root / "a.png", CODING),
    ),
    "a large mask": (lambda: {"a.png": png(60_000, 60_000)}, lambda root: read_mask(root / "a.png", CODING)),
    "settings with an object": (
        lambda: {"c.yaml": b"optim: !!python/object/apply:os.system [true]"},
        lambda root: read_config(AttributesConfig, root / "c.yaml"),
    ),
    "settings with many aliases": (
        lambda: {"c.yaml": BILLION.encode()},
        lambda root: read_config(AttributesConfig, root / "c.yaml"),
    ),
    "data.yaml with many aliases": (
        lambda: {"data.yaml": f"{BILLION}names: *a39\n".encode(), "train/images/x.png": IMAGE},
        open_detection,
    ),
    "a MATLAB file of cells in cells": (
        lambda: {"Images/a/1.jpg": JPEG, "train_list.mat": matlab_cells(1500)},
        lambda root: open_labelled(root, format="stanford_dogs")[0]["train"],
    ),
    "a MATLAB file of a million dimensions": (
        lambda: {"Images/a/1.jpg": JPEG, "train_list.mat": matlab_cells(1, sides=[2**31 - 1] * 10**6)},
        lambda root: open_labelled(root, format="stanford_dogs")[0]["train"],
    ),
    "a tar file of digits": (lambda: {"0.tar": tar_of_digits()}, open_places),
    "a tar file without an end": (lambda: {"0.tar": endless_tar()}, open_places),
}


def refuse_or_read(files: Tree, read: Callable[[Path], object]) -> Any:
    """The harness's finding: nothing outside the folder, within its time and memory, and errors that name the file."""
    reader = Reader(files, read, around={"secret.png": IMAGE}, damage=lambda tree, _: tree)
    return run_cases("hostile", reader, 0, 1)


@NEEDS_PROC
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name: str) -> None:
    files, read = HOSTILE[name]
    found = refuse_or_read(files(), read)
    assert not found.failures, found.failures[0][1]
    assert found.num_read == 0, "it was read"


def test_a_compressed_list_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.classification.matlab.MAX_BYTES", 1000)
    content = zlib.compress(bytes(2000))
    (tmp_path / "a.mat").write_bytes(matlab(struct.pack("<II", 15, len(content)) + content))
    with pytest.raises(ValueError, match="more than 1,000 bytes of arrays"):
        read_matlab(tmp_path / "a.mat")


OUTSIDE = ("../../secret.png", "/etc/hostname", "..\\..\\secret.png", "%2e%2e/%2e%2e/secret.png")


def outside(form: str) -> Tree:
    """Annotations of a form whose names lead out of their folder, and an image that could be found for one."""
    files: Tree = {"images/x.png": IMAGE, "1.jpg": JPEG}
    if form == "coco":
        images = [{"id": k, "file_name": name, "height": 40, "width": 60} for k, name in enumerate((*OUTSIDE, "x.png"))]
        return files | {"annotations/instances_train2017.json": json.dumps(COCO | {"images": images}).encode()}
    if form == "voc":
        size = "<size><width>60</width><height>40</height></size>"
        texts = [f"<annotation><filename>{name}</filename>{size}</annotation>" for name in OUTSIDE]
        return files | {f"{row}.xml": text.encode() for row, text in enumerate(texts)}
    if form == "labelme":
        contents = [{"shapes": [], "imagePath": name, "imageHeight": 40, "imageWidth": 60} for name in OUTSIDE]
        return files | {f"{row}.json": json.dumps(content).encode() for row, content in enumerate(contents)}
    if form == "yolo":
        settings = {"path": "../..", "train": [*OUTSIDE, "train.txt"], "val": "images", "names": ["a"]}
        names = "\n".join((*OUTSIDE, "images/x.png"))
        files |= {"train.txt": names.encode(), "images/x.txt": b"0 0.5 0.5 0.1 0.1"}
        return files | {"data.yaml": json.dumps(settings).encode()}
    rows = [f"{name},1,2" for name in (*OUTSIDE, "1.jpg")]
    return files | {"places.csv": "\n".join(["path,lat,lon", *rows]).encode()}


@NEEDS_PROC
@pytest.mark.parametrize("form", ["coco", "voc", "labelme", "yolo", "places"])
def test_no_annotation_leads_out_of_its_folder(form: str) -> None:
    open_data: Any = open_places if form == "places" else partial(open_detection, format=form)
    found = refuse_or_read(outside(form), partial(whole, open_data))
    assert not found.failures, found.failures[0][1]
    assert found.num_read == 1, "nothing was looked for"


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivfpq"])
def test_nothing_of_a_removed_photo_is_in_the_gallery(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a search of all bytes in its folder: vector, path and id; also of what a killed update has left."""
    sizes = {"flat": 40, "hnsw": 400, "ivfpq": np.inf}
    monkeypatch.setattr(neighbours, "MAX_SIZES", sizes)
    number = {"flat": 20, "hnsw": 80, "ivfpq": 500}[kind]
    vectors = np.random.default_rng(0).normal(size=(number, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    photos = [str(tmp_path / "photos" / f"person-{row:03d}.jpg") for row in range(number)]
    (tmp_path / "photos").mkdir()
    for photo in photos:
        Path(photo).write_bytes(JPEG)
    folder = tmp_path / "gallery"
    gallery = Gallery.new(folder / "g.faiss", 8, "net")
    ids = photo_ids(photos)
    gallery.add(ids, [Entry(photo) for photo in photos], vectors)
    assert gallery.kind == kind
    (folder / ".g.99999999.faiss").write_bytes((folder / "g.faiss").read_bytes())
    (folder / ".g.99999999.csv").write_bytes((folder / "g.csv").read_bytes())

    def traces(row: int) -> int:
        content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
        marks = (vectors[row].tobytes(), Path(photos[row]).name.encode(), struct.pack("<q", ids[photos[row]]))
        return sum(content.count(mark) for mark in marks)

    assert traces(3) >= 6
    Gallery.read(folder / "g.faiss").remove([photos[3]])
    assert traces(3) == 0
    assert traces(4) >= 3
    assert all(Path(photo).is_file() for photo in photos)  # the photos themselves are the user's
