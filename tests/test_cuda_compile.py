"""Device code without a GPU: how it is compiled, and what is in it."""

import importlib
import re

import numpy as np
import pytest

import sass
import small_kernel
from operators import OPERATORS, RULES
from roi_numba import _scalar
from small_kernel import CC, Kernel, compilation, cuda, grown

folder = small_kernel.folder

needs_tools = pytest.mark.skipif(
    not sass.there(), reason="nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm are not installed"
)


# ---- compiling -----------------------------------------------------------------------------


def parameters(ptx):
    """What the PTX's entry takes, after its name: u64, u64, …"""
    name, inside = re.search(r"\.visible \.entry (\w+)\((.*?)\)", ptx, re.DOTALL).groups()
    return name, re.findall(r"\.param \.(?:align \d+ )?\.?(\w+)", inside)


def test_parameters_are_those_of_c():
    """A pointer is 8 bytes and an int32 is 4: what CuPy sends, and nothing of Numba's own."""
    assert parameters(grown().ptx(CC)) == ("grow", ["u64", "u64", "u32", "f32"])


@pytest.mark.parametrize(
    ("parameter", "loaded", "stored"),
    [
        ("float64*", "f64", "f64"),
        ("float32*", "f32", "f32"),
        ("float16*", "[ub]16", "[ub]16"),
        ("bfloat16*", "[ub]16", "[ub]16"),
        ("int64*", "[ub]64", "[ub]64"),
        ("int32*", "[ub]32", "[ub]32"),
        ("int8*", "[ubs]8", "[ubs]8"),
        ("uint8*", "[ub]8", "[ub]8"),
        ("bool*", "[ubs]8", "[ub]8"),
    ],
)
def test_pointers(parameter, loaded, stored):
    """Elements are as large as NumPy's, those of two bytes included."""

    def copy(target, source):
        target[1] = source[3]

    ptx = Kernel(copy, "copy", (parameter, parameter), 32).ptx(CC)
    size = np.dtype({"bfloat16*": "uint16"}.get(parameter, parameter[:-1])).itemsize
    ends = rf"\[%\w+\+{3 * size}\]", rf"\[%\w+\+{size}\]" if size > 0 else ""
    assert re.search(rf"ld\.global(\.nc)?\.{loaded}\s+%\w+, {ends[0]}", ptx), ptx
    assert re.search(rf"st\.global\.{stored}\s+{ends[1]}", ptx), ptx


def test_float16_is_converted_by_the_gpu():
    def double(target, source):
        target[0] = np.float32(source[0]) * np.float32(2)

    ptx = Kernel(double, "double", ("float16*", "float16*"), 32).ptx(CC)
    assert "cvt.f32.f16" in ptx
    assert "cvt.rn.f16.f32" in ptx
    assert not re.search(r"\bcall\b", ptx)


def test_bfloat16_comes_as_its_bits():
    """Not as a float16, which is as large."""

    def widen(target, source):
        target[0] = np.uint32(source[0]) << np.uint32(16)

    ptx = Kernel(widen, "widen", ("uint32*", "bfloat16*"), 32).ptx(CC)
    assert re.search(r"\b(shl\.b32|prmt\.b32)\b", ptx), ptx
    assert "f16" not in ptx


@pytest.mark.parametrize("parameter", ["float64*", "float32*", "float16*", "bfloat16*"])
def test_vectors(parameter):
    """16 bytes are loaded at once, in order, and stored in the same."""
    bits = importlib.import_module("roi_numba._cuda.bits")
    lanes = 128 // compilation._type(parameter).dtype.bitwidth

    def copy(target, source):
        bits.store_vector(target, 2 * lanes, bits.load_vector(source, lanes))

    def first(target, source):
        target[0] = bits.load_vector(source, lanes)[0]

    def last(target, source):
        target[0] = bits.load_vector(source, lanes)[lanes - 1]

    def ptx(body):
        return Kernel(body, "body", (parameter, parameter), 32).ptx(CC)

    loaded = r"ld\.global\.v\d\.\w+\s+\{(.*)\}, \[%\w+\+16\];"
    (words,) = re.findall(loaded, whole := ptx(copy))
    assert re.findall(r"st\.global\.v\d\.\w+\s+\[%\w+\+32\], \{(.*)\};", whole) == [words]
    # Of a pair the first is the lower half.
    for body, place, shifts in ((first, 0, 0), (last, -1, 1)):
        (words,) = re.findall(loaded, text := ptx(body))
        word = words.split(", ")[place]
        halves = re.findall(rf"shr\.u32\s+(%\w+), {word}, 16;", text)
        assert len(halves) == (shifts if lanes == 8 else 0)
        (word,) = halves or [word]
        assert re.search(rf"st\.global\.\w+\s+\[%\w+\], {word};", text), text


def test_threads_are_the_bound_of_a_launch():
    assert re.search(r"\.maxntid 64\b", grown().ptx(CC))


def test_contraction():
    """On by default, off for geometry; in PTX, since machine code divides with FFMA either way."""
    assert re.search(r"\bfma\.rn\.f32", grown().ptx(CC))
    apart = grown(contract=False).ptx(CC)
    assert not re.search(r"\bfma", apart)
    # Of PTX's own operations those that say how they round are left alone by the assembler.
    assert len(re.findall(r"\b(?:mul|add)\.rn\.f32", apart)) == 2


@needs_tools
def test_contraction_in_machine_code():
    fused, apart = (sass.instructions(grown(contract=each).cubin(CC)) for each in (True, False))
    assert (fused["FFMA"], fused["FMUL"], fused["FADD"]) == (1, 0, 0)
    assert (apart["FFMA"], apart["FMUL"], apart["FADD"]) == (0, 1, 1)


def test_nothing_is_approximate():
    """No flush to zero, no approximate division."""

    def divide(target, source):
        target[0] = source[0] / source[1] * source[2]

    ptx = Kernel(divide, "divide", ("float32*", "float32*"), 32).ptx(CC)
    assert "div.rn.f32" in ptx
    assert not re.search(r"\.ftz|\.approx|div\.full", ptx)


def test_a_kernel_that_is_wrong_says_why():
    def wrong(target):
        target[0] = target.nothing

    with pytest.raises(Exception, match="nothing"):
        Kernel(wrong, "wrong", ("float32*",), 32).ptx(CC)


def test_an_architecture_that_is_unknown_says_so():
    ptx = grown().ptx(CC).encode()
    with pytest.raises(RuntimeError, match=r"nvJitLink \d+\.\d+ refuses -arch=sm_12345: "):
        compilation._linked(ptx, (1234, 5))


def test_what_the_linker_refuses_is_shown():
    with pytest.raises(RuntimeError, match=r"(?i)syntax error|fatal"):
        compilation._linked(b".version 8.0\n.target sm_90\nnonsense\n", CC)


def test_without_cudas_compilers(monkeypatch):
    """numba-cuda alone, without its extra, cannot compile: the message says what to install."""

    def missing(*arguments, **options):
        raise compilation.DynamicLibNotFoundError("libnvvm")

    monkeypatch.setattr(compilation, "_read", lambda path: None)
    monkeypatch.setattr(compilation, "_linked", missing)
    with pytest.raises(ImportError, match=r"roi_numba\[cuda12\].*roi_numba\[cuda13\]"):
        grown().cubin(CC)


def test_calls_need_no_gpu():
    """And whoever asks for the current one afterwards is not lied to."""
    from numba.cuda import dispatcher

    @compilation.device
    def twice(x):
        return x + x

    def double(target):
        target[0] = twice(target[0])

    asked = dispatcher.get_current_device
    for cc in (CC, (8, 0)):
        ptx = Kernel(double, "double", ("float32*",), 32).ptx(cc)
        assert f".target sm_{cc[0]}{cc[1]}" in ptx
        assert not re.search(r"\bcall\b|\.func\b", ptx)
    assert dispatcher.get_current_device is asked


# ---- scalar functions on the device --------------------------------------------------------


def asking(rule, name):
    """A kernel that calls one function of a rule, and the rule's span, which all of them need.

    It stores all that the function returns, so that nothing of it is left out.
    """
    span, function = (compilation.on_device(getattr(rule, each)) for each in ("span", name))
    own = len(importlib.import_module(rule.options.__module__).options()[0])

    def pack_one(scale, first, second):
        return scale, first

    def pack_two(scale, first, second):
        return scale, first, second

    pack = compilation.device({1: pack_one, 2: pack_two}[own])

    if name == "entries":

        def ask(real, whole, scale, first, second):
            option = pack(scale, first, second)
            box = span(real[0], real[1], whole[0], option)
            whole[3], whole[4], real[2] = function(box, whole[1], whole[0], whole[2], option)

    elif name == "entry":

        def ask(real, whole, scale, first, second):
            option = pack(scale, first, second)
            box = span(real[0], real[1], whole[0], option)
            whole[3], real[2], real[3] = function(
                box, whole[1], whole[4], whole[0], whole[2], option
            )

    else:

        def ask(real, whole, scale, first, second):
            option = pack(scale, first, second)
            box = span(real[0], real[1], whole[0], option)
            whole[3], real[2], real[3], real[4], real[5] = function(
                box, whole[1], whole[4], whole[0], whole[2], option
            )

    return ask


FUNCTIONS = [
    pytest.param(rule, name, id=f"{rule.name}-{name}")
    for rule in RULES
    for name in ("entries", "entry", "slope")
    if getattr(rule, name) is not None
]


@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize(("rule", "name"), FUNCTIONS)
def test_rules_on_the_device(rule, name, real):
    """Every function compiles, is inlined, stays in its dtype and is not contracted."""
    types = (f"{real}*", "int32*", real, "int32", "int32")
    ptx = Kernel(asking(rule, name), f"ask_{name}", types, 64, contract=False).ptx(CC)
    assert not re.search(r"\bcall\b|\.func\b", ptx)
    assert not re.search(r"\bfma", ptx)
    assert bool(re.search(r"\.f64", ptx)) is (real == "float64")


def test_rules_would_be_contracted():
    """Or the test before this one finds nothing because there is nothing."""
    (align,) = (operator.rule for operator in OPERATORS if operator.name == "roi_align")
    types = ("float32*", "int32*", "float32", "int32", "int32")
    ptx = Kernel(asking(align, "entry"), "ask", types, 64).ptx(CC)
    assert re.search(r"\bfma\.rn\.f32", ptx)


def test_functions_stay_as_they_are():
    """What the CPU engine and Python call is not touched by what the device calls."""
    before = dict(_scalar.faded_tap.__globals__)
    copy = compilation.on_device(_scalar.faded_tap)
    assert copy is not _scalar.faded_tap
    assert compilation.on_device(_scalar.faded_tap) is copy
    assert _scalar.faded_tap.__globals__ == before
    assert _scalar.faded_tap(np.float32(0.5), 4) == (0, 0.5, 0.5)


def test_marks_last():
    """Whichever engine comes first, the other finds every marked function."""
    importlib.import_module("roi_numba._cpu.contract")  # has registered all of them
    for rule in RULES:
        for function in (rule.span, rule.entries, rule.entry, rule.slope):
            assert function is None or function in _scalar.SCALARS
    assert _scalar.clamped_tap in _scalar.SCALARS


# ---- the tools that look into cubins -------------------------------------------------------


def kernel_of(body, *types):
    return Kernel(body, body.__name__, types, 64).cubin(CC)


@needs_tools
def test_sass_sees_float64():
    def wide(target, source):
        target[0] = source[0] * 0.1  # a bare literal

    counted = sass.instructions(kernel_of(wide, "float32*", "float32*"))
    assert set(sass.float64(counted)) >= {"DMUL"}
    assert not sass.float64(sass.instructions(grown().cubin(CC)))


@needs_tools
def test_sass_sees_local_memory_and_shared_memory():
    def local(target, source, at):
        line = cuda.local.array(64, np.float32)
        for i in range(64):
            line[(i + at) % 64] = source[i]
        target[0] = line[2 * at % 64]

    def shared(target, source, at):
        line = cuda.shared.array(64, np.float32)
        line[cuda.threadIdx.x] = source[cuda.threadIdx.x]
        cuda.syncthreads()
        target[cuda.threadIdx.x] = line[at]

    cubin = kernel_of(local, "float32*", "float32*", "int32")
    assert sass.local(sass.instructions(cubin))
    assert sass.usage(cubin).local == 256
    cubin = kernel_of(shared, "float32*", "float32*", "int32")
    assert not sass.local(sass.instructions(cubin))
    assert sass.usage(cubin)[1:] == (0, 256 + 1024)


def test_sass_sees_divisions_of_64_bits():
    def divide(target, n, m):
        target[0] = n // m

    def divide_unsigned(target, n, m):
        target[0] = np.uint32(n) // np.uint32(m)

    assert sass.divisions_of_64_bits(kernel_of(divide, "int64*", "int64", "int64"))
    assert not sass.divisions_of_64_bits(kernel_of(divide_unsigned, "int32*", "int32", "int32"))


def test_sass_reads_instructions(monkeypatch):
    """As nvdisasm prints them, with and without predicates and modifiers."""
    printed = """
.text.k:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @!P0 LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;
        /*0020*/             @!UPT UIADD3 URZ, URZ, URZ, URZ ;
        /*0030*/               @P1 LDG.E R4, desc[UR4][R2.64] ;
        /*0040*/                   LDG.E.128 R4, desc[UR4][R2.64] ;
        /*0050*/                   DEPBAR.LE SB0, 0x0 ;
        /*0060*/                   MUFU.RCP64H R5, R7 ;
        /*0070*/                   F2F.F64.F32 R4, R5 ;
        /*0080*/                   I2F.U64.RP R4, R6 ;
"""
    monkeypatch.setattr(sass, "_said", lambda *arguments: printed)
    counted = sass.instructions(b"")
    assert counted.total() == 9
    assert counted["UIADD3"] == 1
    assert sass.loads_of_16_bytes(counted) == 2
    assert set(sass.float64(counted)) == {"MUFU.RCP64H", "F2F.F64.F32"}
