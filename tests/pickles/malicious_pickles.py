"""Pickles that must be refused, made opcode by opcode; as a script it reads them all under an audit hook."""

from __future__ import annotations

import json
import resource
import struct
import sys
import time
from typing import Any

DANGEROUS = [
    "os.system",
    "posix.system",
    "nt.system",
    "os.popen",
    "os.execv",
    "os.spawnl",
    "os.remove",
    "os.putenv",
    "os.kill",
    "subprocess.Popen",
    "subprocess.run",
    "subprocess.check_output",
    "subprocess.getoutput",
    "builtins.eval",
    "builtins.exec",
    "builtins.compile",
    "builtins.getattr",
    "builtins.setattr",
    "builtins.open",
    "builtins.__import__",
    "builtins.map",
    "builtins.type",
    "builtins.bytearray",
    "builtins.print",
    "__builtin__.eval",
    "__builtin__.apply",
    "__builtin__.object",
    "functools.partial",
    "functools.reduce",
    "operator.attrgetter",
    "operator.itemgetter",
    "operator.methodcaller",
    "importlib.import_module",
    "runpy.run_path",
    "runpy._run_code",
    "pty.spawn",
    "socket.socket",
    "socket.create_connection",
    "urllib.request.urlopen",
    "http.client.HTTPConnection",
    "shutil.rmtree",
    "pathlib.Path.unlink",
    "ctypes.CDLL",
    "code.InteractiveInterpreter",
    "timeit.timeit",
    "cProfile.run",
    "pdb.run",
    "bdb.Bdb",
    "pickle.loads",
    "pickle._loads",
    "marshal.loads",
    "types.FunctionType",
    "types.CodeType",
    "copyreg._reconstructor",
    "copyreg.add_extension",
    "copyreg.__newobj__",
    "webbrowser.open",
    "asyncio.create_subprocess_shell",
    "tempfile.mktemp",
    "platform.popen",
    "pip.main",
    "pydoc.pipepager",
    "numpy.load",
    "numpy.fromfile",
    "numpy.memmap",
    "numpy.f2py.crackfortran.getlincoef",
    "numpy.testing._private.utils.runstring",
    "numpy.dtypes.ObjectDType",
    "numpy.core.multiarray.fromstring",
    "numpy.random._pickle.__randomstate_ctor",
    "numpy.ma.core._mareconstruct",
    "torch.load",
    "torch.jit.load",
    "torch.hub.load",
    "torch._utils._rebuild_tensor_v2",
    "torch.storage._load_from_bytes",
    "torch.package.PackageImporter",
    "pandas.core.frame.DataFrame",
    "pandas.io.pickle.read_pickle",
    "sklearn.linear_model.LogisticRegression",
    "collections.OrderedDict",
    "collections.defaultdict",
    "datetime.datetime",
    "pathlib.PosixPath",
    "_io.open",
    "sys.exit",
    "sys.setrecursionlimit",
    "gc.get_objects",
]


def corpus() -> dict[str, bytes]:
    """Name -> pickle; none of them may be read."""
    files: dict[str, bytes] = {}
    for dotted in DANGEROUS:
        module, _, name = dotted.rpartition(".")
        for opcode, data in _calls(module.encode(), name.encode()).items():
            files[f"{opcode}:{dotted}"] = data
    for name in ("OrderedDict", "defaultdict"):  # an empty one is data
        del files[f"inside-a-dict:collections.{name}"]
    return files | _special_opcodes() | _bombs() | _forged_arrays()


def _short(text: bytes) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text


def _calls(module: bytes, name: bytes) -> dict[str, bytes]:
    line = module + b"\n" + name + b"\n"
    argument = b"\x8c\x04true"
    stack = _short(module) + _short(name) + b"\x93"
    return {
        "REDUCE": b"\x80\x04c" + line + argument + b"\x85R.",
        "REDUCE-protocol-0": b"c" + line + b"(Vtrue\ntR.",
        "STACK_GLOBAL": b"\x80\x04" + stack + argument + b"\x85R.",
        "STACK_GLOBAL-memo": b"\x80\x04" + _short(module) + b"\x940" + _short(name) + b"\x940h\x00h\x01\x93)R.",
        "INST": b"(Vtrue\ni" + line + b".",
        "OBJ": b"(c" + line + argument + b"o.",
        "NEWOBJ": b"\x80\x04" + stack + argument + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04" + stack + argument + b"\x85}\x92.",
        "BUILD": b"\x80\x04" + stack + b"}" + argument + b"K\x01sb.",
        "bare": b"\x80\x04" + stack + b".",
        "inside-a-dict": b"\x80\x04}\x8c\x0aembeddings" + stack + b")Rs.",
        "short-frame": b"\x80\x04\x95" + struct.pack("<Q", 1) + stack + argument + b"\x85R.",
    }


def _special_opcodes() -> dict[str, bytes]:
    system = b"cos\nsystem\n(Vtrue\ntR."
    files = {
        "persistent-id": b"Pos.system\n.",
        "binary-persistent-id": b"\x80\x04\x8c\x02idQ.",
        "extension-1": b"\x80\x02\x82\x01.",
        "extension-2": b"\x80\x02\x83\x01\x00.",
        "extension-4": b"\x80\x02\x84\x01\x00\x00\x00.",
        "next-buffer": b"\x80\x05\x97.",
        "readonly-buffer": b"\x80\x05\x97\x98.",
        "set": b"\x80\x04\x8f.",
        "frozenset": b"\x80\x04(\x91.",
        "duplicate": b"\x80\x04]2\x86.",
        "stacked": b"\x80\x04N." + system,
        "stacked-after-newline": b"\x80\x04N.\n" + system,
        "nested-loads": b"cpickle\nloads\n(C" + bytes([len(system)]) + system + b"tR.",
        "python-2-text": b"S'true'\n.",
        "newer-protocol": b"\x80\x06N.",
        "extension-registry": b"ccopyreg\n_inverted_registry\n(K\x01\x8c\x02os\x8c\x06system\x86tR.",
        "reduce-of-text": b"\x80\x04\x8c\x02os\x8c\x04true\x85R.",
        "build-of-dict": b"\x80\x04}}\x8c\x09__class__K\x01sb.",
        "build-of-list": b"\x80\x04]}b.",
        "append-to-dict": b"\x80\x04}K\x01a.",
        "setitem-of-list": b"\x80\x04]K\x00K\x01s.",
        "global-name-not-text": b"\x80\x04K\x01K\x02\x93.",
        "encode-rot13": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
        "encode-idna": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00idna\x86R.",
        "bytes-of-number": b"\x80\x04cbuiltins\nbytes\nJ\xff\xff\xff\x7f\x85R.",
        "ndarray-called": b"\x80\x04cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85\x85R.",
        "stop-without-value": b"\x80\x04.",
        "unused-values": b"\x80\x04NN.",
        "open-mark": b"\x80\x04N(.",
        "no-stop": b"\x80\x04N",
        "float-key": b"\x80\x04}G\x7f\xf8\x00\x00\x00\x00\x00\x00Ns.",
        "dotted-name": b"\x80\x04\x8c\x02os\x8c\x0bpath.system\x93.",
        "terminal-escape": b"c\x1b[31mos\n\x1b]0;x\x07system\n)R.",
        "empty": b"",
    }
    return {f"opcode:{name}": data for name, data in files.items()}


def _bombs() -> dict[str, bytes]:
    level = b"]\x94(" + b"N" * 10 + b"e"
    nested = b"\x80\x04(" + level + b"".join(b"]\x94(" + (b"h" + bytes([k])) * 10 + b"e" for k in range(20)) + b"t."
    colliding = b"".join(
        b"\x8a\x10" + (k * ((1 << 61) - 1)).to_bytes(16, "little") + b"N" for k in range(1 << 40, (1 << 40) + 20_000)
    )
    files = {
        "aliases": nested,
        "long-binput": b"\x80\x04Nr\xff\xff\xff\x7f.",
        "long-binput-then-frame": b"\x80\x04\x95" + struct.pack("<Q", 2) + b"Nr\xff\xff\xff\x7f00.",
        "long-binget": b"\x80\x04j\xff\xff\xff\x7f.",
        "text-put": b"Np99999999999999999999999999999999\n0.",
        "huge-bytes8": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.",
        "huge-bytearray8": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",
        "huge-unicode8": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x.",
        "huge-unicode": b"X\xff\xff\xff\x7fx.",
        "huge-bytes": b"\x80\x03B\xff\xff\xff\xffx.",
        "huge-frame": b"\x80\x04\x95" + b"\xff" * 8,
        "huge-long4": b"\x80\x02\x8b\xff\xff\xff\x7fx.",
        "negative-long4": b"\x80\x02\x8b\xff\xff\xff\xffx.",
        "long-of-1-MB": b"\x80\x02\x8b" + struct.pack("<I", 1 << 20) + b"\x01" * (1 << 20) + b".",
        "long-of-1-M-digits": b"L" + b"9" * (1 << 20) + b"L\n.",
        "float-of-1-M-digits": b"F" + b"9" * (1 << 20) + b"\n.",
        "deep-lists": b"\x80\x04" + b"]" * 40_000 + b"a" * 39_999 + b".",
        "deep-tuples": b"\x80\x04)" + b"\x85" * 40_000 + b".",
        "deep-dicts": b"\x80\x04" + b"}\x8c\x01k" * 40_000 + b"N" + b"s" * 40_000 + b".",
        "deep-marks": b"(" * 200_000 + b".",
        "many-containers": b"\x80\x04(" + b"}" * 500_000 + b"l.",
        "cycle": b"\x80\x04]\x94h\x00a.",
        "cycle-by-a-dict": b"\x80\x04}\x94\x8c\x01kh\x00s.",
        "colliding-keys": b"\x80\x04}(" + colliding + b"u.",
        "repeated-encode": b"\x80\x02("
        + b"X"
        + struct.pack("<I", 1 << 20)
        + b"a" * (1 << 20)
        + b"q\x000"
        + b"X\x06\x00\x00\x00latin1q\x010"
        + b"c_codecs\nencode\nq\x020"
        + b"h\x02h\x00h\x01\x86R" * 500
        + b"l.",
    }
    return {f"bomb:{name}": data for name, data in files.items()}


def _array(*, code: bytes, state: bytes, shape: bytes, data: bytes, core: bytes = b"numpy.core.multiarray") -> bytes:
    dtype = b"cnumpy\ndtype\n" + _short(code) + b"\x89\x88\x87R(" + state + b"tb"
    return (
        b"\x80\x04c"
        + core
        + b"\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01"
        + shape
        + dtype
        + b"\x89"
        + data
        + b"tb."
    )


def _forged_arrays() -> dict[str, bytes]:
    good = b"K\x03\x8c\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"
    shape, data = b"K\x02\x85", b"C\x08" + bytes(8)
    honest = {"code": b"f4", "state": good, "shape": shape, "data": data}
    changed: dict[str, dict[str, bytes]] = {
        **{f"flags-{bit}": {"state": good[:-1] + bytes([1 << bit])} for bit in range(7)},
        "size": {"state": good.replace(b"J\xff\xff\xff\xff", b"K\x40", 1)},
        "version-4": {"state": good.replace(b"K\x03", b"K\x04", 1)},
        "fields": {"state": good.replace(b"NNN", b"N)}", 1)},
        "subarray": {"state": good.replace(b"NNN", b"\x8c\x02f4K\x02\x85\x86NN", 1)},
        "byte-order": {"state": good.replace(b"\x01<", b"\x01?", 1)},
        "object-from-bytes": {"code": b"O8", "state": good.replace(b"<", b"|")[:-1] + b"\x3f"},
        "code-structured": {"code": b"f4,O"},
        "code-void": {"code": b"V8"},
        "code-datetime": {"code": b"M8"},
        "code-long-double": {"code": b"f16"},
        "code-huge-text": {"code": b"U99999999"},
        "code-newline": {"code": b"f4\n"},
        "shape-too-large": {"shape": b"J\xff\xff\xff\x7f\x85"},
        "shape-overflow": {"shape": b"\x8a\x08" + b"\xff" * 7 + b"\x7f" + b"\x8a\x01\x02\x86"},
        "shape-negative": {"shape": b"J\xfe\xff\xff\xffJ\xff\xff\xff\xff\x86"},
        "shape-not-a-tuple": {"shape": b"K\x02"},
        "shape-of-floats": {"shape": b"G@\x00\x00\x00\x00\x00\x00\x00\x85"},
        "data-too-short": {"data": b"C\x07" + bytes(7)},
        "data-is-text": {"data": b"\x8c\x08aaaaaaaa"},
        "data-is-a-list": {"data": b"](NNe"},
    }  # fmt: skip
    files = {name: _array(**(honest | change)) for name, change in changed.items()}
    files["no-state"] = b"\x80\x04cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R."
    files["other-kind"] = b"\x80\x04cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x85C\x01b\x87R."
    files["8-G-elements"] = (
        b"\x80\x04cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x8a\x05\x00\x00\x00\x00\x02\x85C\x01b\x87R."
    )
    dtype = b"cnumpy\ndtype\n\x8c\x02O8\x89\x88\x87R"
    files["scalar-object"] = b"\x80\x04cnumpy.core.multiarray\nscalar\n" + dtype + b"C\x08" + bytes(8) + b"\x86R."
    buffer = b"\x80\x05cnumpy.core.numeric\n_frombuffer\n(C\x04" + bytes(4) + b"cnumpy\ndtype\n\x8c\x02f4\x89\x88\x87R"
    files["frombuffer-shape"] = buffer + b"K\x02\x85\x8c\x01CtR."
    files["frombuffer-order"] = buffer + b"K\x01\x85\x8c\x01ZtR."
    files["frombuffer-axes"] = buffer + b"K\x01\x85\x8c\x01KK\x07\x85tR."
    unicode_state = b"K\x03\x8c\x01<NNNK\x04K\x04K\x08"
    files["text-out-of-range"] = _array(
        code=b"U1", state=unicode_state, shape=b"K\x01\x85", data=b"C\x04" + b"\xff" * 4
    )
    assert b"numpy" in _array(**honest)
    return {f"array:{name}": data for name, data in files.items()}


def main() -> None:
    """Read every file; print what was not refused, what the interpreter was made to do, the slowest and the memory."""
    from contrastive_cli.core.errors import UnsafeFileError
    from contrastive_cli.pickles import reader as safe_pickle

    files = corpus()
    events: list[str] = []
    watching = False

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if not watching:
            return
        wrote = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        names = (
            "exec",
            "compile",
            "import",
            "pickle.",
            "os.",
            "subprocess.",
            "socket.",
            "ctypes.",
            "shutil.",
            "marshal.",
        )
        if wrote or event.startswith(names):
            events.append(f"{event} {arguments!r:.80}")

    sys.addaudithook(watch)
    read, slowest = [], ("", 0.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    watching = True
    for name, data in files.items():
        start = time.process_time()
        try:
            safe_pickle.load(data)
            read.append(name)
        except UnsafeFileError:
            pass
        seconds = time.process_time() - start
        slowest = max(slowest, (name, seconds), key=lambda pair: pair[1])
    watching = False
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(json.dumps({"files": len(files), "read": read, "events": events, "slowest": slowest, "grown": grown}))


if __name__ == "__main__":
    main()
