"""``python -m roi_numba info`` and ``python -m roi_numba demo``."""

import ctypes
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import roi_numba
from roi_numba import _demo, _figure, _info
from roi_numba.__main__ import main

# ---- demo ----------------------------------------------------------------------------------


def rows(text):
    """The table's rows by operator: the last two columns are the error and the time."""
    found = {}
    for line in text.splitlines():
        for variant in _demo.VARIANTS:
            if line.startswith(f"{variant.name:<21}"):
                found.setdefault(variant.name, []).append(line)
    return found


def picture(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def assert_drawn(pixels):
    """White paper, 1600 pixels wide, nothing cut off at its edges, and plenty on it."""
    assert pixels.shape[1] == 1600
    rim = np.ones(pixels.shape[:2], bool)
    rim[12:-12, 12:-12] = False
    assert (pixels[rim] == 255).all()
    ink = (pixels < 250).any(axis=2)
    assert 0.2 < ink.mean() < 0.8
    assert len(np.unique(pixels @ np.array([1, 256, 65536]))) > 1000


@pytest.fixture
def noise(tmp_path):
    """An image file of 211 x 150 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (150, 211, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    return str(tmp_path / "noise.png")


def test_demo_on_the_default_photo(tmp_path, capsys):
    output = tmp_path / "demo.png"
    assert main(["demo", "--output", str(output)]) == 0
    printed, complaints = capsys.readouterr()
    assert not complaints
    table = rows(printed)
    assert list(table) == [variant.name for variant in _demo.VARIANTS]
    operators = {name.split(",")[0] for name in table}
    assert operators == {"roi_pool", "roi_warp", "roi_align", "prroi_pool"}
    errors = {name: float(lines[0].split()[-2]) for name, lines in table.items()}
    assert errors["prroi_pool, aligned"] == 0
    assert 0 < errors["roi_align, aligned"] < 3
    rest = set(errors) - {"prroi_pool, aligned", "roi_align, aligned"}
    assert min(errors[name] for name in rest) > 10
    assert all(float(lines[0].split()[-1]) > 0 for lines in table.values())
    # 145, 380 over 32 are 4.53 and 11.875: rounded 5 and 12, the last cell included.
    assert "5.00 - 13.00" in table["roi_pool"][0]
    assert "4.00 - 11.00" in table["roi_pool, truncated"][0]
    assert "145.0 - 380.0" in table["prroi_pool, aligned"][0]
    assert_drawn(picture(output))


def test_demo_on_an_image_with_two_boxes(noise, tmp_path, capsys):
    output = tmp_path / "two.png"
    one = ["demo", noise, "--stride", "10", "--output-size", "3", "--output", str(output)]
    assert main([*one, "--box", "13,20,90,99.5"]) == 0
    single = picture(output)
    assert main([*one, "--box", "13,20,90,99.5", "0,0,211,150"]) == 0
    both = capsys.readouterr().out
    assert all(len(lines) == 3 for lines in rows(both).values())
    assert "box 0,0,211,150 on a feature map of 15 x 22 cells, 3 x 3 bins" in both
    assert_drawn(picture(output))
    assert picture(output).shape[0] > single.shape[0]


@pytest.mark.parametrize(
    "box", ["505,595,511.5,600", "0,0,0.5,600", "0,0,512,600", "479.9,0,480.1,2"]
)
def test_demo_on_a_box_at_the_rim(box, tmp_path, capsys):
    output = tmp_path / "rim.png"
    assert main(["demo", "--box", box, "--output-size", "2", "--output", str(output)]) == 0
    assert "nan" not in capsys.readouterr().out
    assert picture(output).shape[1] == 1600


def test_demo_draws_the_first_boxes_only(noise, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_figure, "_BOXES_DRAWN", 1)
    output = tmp_path / "first.png"
    arguments = ["--stride", "10", "--output-size", "2", "--output", str(output)]
    boxes = ["13,20,90,99.5", "0,0,211,150"]
    assert main(["demo", noise, *arguments, "--box", *boxes[:1]]) == 0
    height = picture(output).shape[0]
    assert main(["demo", noise, *arguments, "--box", *boxes]) == 0
    assert picture(output).shape[0] == height
    assert len(rows(capsys.readouterr().out)["roi_pool"]) == 3


def variant(name):
    (found,) = (variant for variant in _demo.VARIANTS if variant.name == name)
    return found


@pytest.mark.parametrize(
    ("name", "first", "last", "samples"),
    [
        ("roi_pool", (0, 4), (18, 22), ()),
        ("roi_pool, mean", (0, 4), (18, 22), ()),
        ("roi_pool, truncated", (0, 2), (12, 14), ()),
        ("roi_warp", (0.5, 3.5), (18.5, 21.5), (0.5, 20)),
        ("roi_align", (0.5, 3.46875), (18.3125, 21.28125), (1.2421875, 20.5390625)),
        ("roi_align, aligned", (0, 2.96875), (17.8125, 20.78125), (0.7421875, 20.0390625)),
        ("prroi_pool, aligned", (0, 2.96875), (17.8125, 20.78125), ()),
    ],
)
def test_what_is_read_of_the_tutorials_box(name, first, last, samples):
    """Semantics, section 10; half a pixel further where cell k covers [k, k + 1)."""
    reads = _demo.axis_reads(variant(name), (0, 665), 25, 7, 32)
    assert reads.bins[[0, -1]] / 32 == pytest.approx(np.array([first, last]))
    assert reads.samples[[0, -1] if samples else []] / 32 == pytest.approx(np.array(samples))
    assert reads.extent == pytest.approx((32 * first[0], 32 * last[1]))


def test_feature_map_is_the_block_means():
    photo = np.random.default_rng(1).integers(0, 256, (7, 10, 3), np.uint8)
    features = _demo.Scene(photo, 4, 2).features
    assert features.shape == (1, 3, 2, 3)
    assert features[0, :, 0, 1] == pytest.approx(photo[:4, 4:8].mean(axis=(0, 1)))
    assert features[0, :, 1, 2] == pytest.approx(photo[4:, 8:].mean(axis=(0, 1)))


def complaint(arguments, capsys):
    """Run a command that must fail with status 2 and one sentence, and return the sentence."""
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    return complaint


def test_demo_names_what_is_wrong(noise, tmp_path, capsys):
    absent, text = tmp_path / "absent.jpg", tmp_path / "text.jpg"
    text.write_text("not a photo")
    nowhere = tmp_path / "no" / "folder.png"
    assert f"{absent} cannot be read" in complaint(["demo", str(absent)], capsys)
    assert f"{tmp_path} cannot be read" in complaint(["demo", str(tmp_path)], capsys)
    assert f"{text} is not an image" in complaint(["demo", str(text)], capsys)
    outside = complaint(["demo", "--box", "0,0,513,600"], capsys)
    assert "must lie in the image, 512 x 600, got 0,0,513,600" in outside
    unwritable = complaint(["demo", noise, "--output-size", "2", "--output", str(nowhere)], capsys)
    assert f"cannot be written to {nowhere}" in unwritable


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "info,demo"),
        (["paint"], "paint"),
        (["info", "now"], "now"),
        (["demo", "--box", "1,2,3"], "expected x1,y1,x2,y2, got '1,2,3'"),
        (["demo", "--box", "1,2,3,four"], "expected x1,y1,x2,y2, got '1,2,3,four'"),
        (["demo", "--box", "30,2,3,4"], "expected x1 < x2 and y1 < y2, got '30,2,3,4'"),
        (["demo", "--box", "1,2,nan,4"], "got '1,2,nan,4'"),
        (["demo", "--box"], "--box"),
        (["demo", "--stride", "0"], "expected a whole number >= 1, got '0'"),
        (["demo", "--output-size", "7.5"], "expected a whole number >= 1, got '7.5'"),
    ],
)
def test_argument_errors_are_one_sentence(arguments, message, capsys):
    assert message in complaint(arguments, capsys)


@pytest.mark.parametrize("missing", ["matplotlib", "scipy"])
def test_demo_without_its_extra_names_it(missing):
    code = (
        f"import sys; sys.modules['{missing}'] = None; "
        "from roi_numba.__main__ import main; sys.exit(main(['demo']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert f'{missing} is missing: pip install "roi_numba[demo]"' in done.stderr
    assert done.stderr.count("\n") == 1


# ---- info ----------------------------------------------------------------------------------


def test_info_prints_the_facts(capsys):
    assert main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    facts = dict(re.split(r":\s+", line, maxsplit=1) for line in lines)
    assert facts["roi_numba"] == roi_numba.__version__
    assert facts["python"].startswith("3.")
    assert facts["numpy"] == np.__version__
    assert re.match(r"\d+\.\d+", facts["numba"])
    assert re.match(r"\d+\.\d+", facts["llvmlite"])
    assert facts["threads"].startswith(f"{roi_numba.get_num_threads()} of ")
    assert facts["scipy"] != "not installed"
    expected = {"platform", "cpu", "features", "cache", "CUDA", "CuPy", "torch", "JAX", "ml_dtypes"}
    assert expected <= set(facts)
    assert all(facts.values())


def test_info_imports_no_neighbour():
    code = (
        "import sys; from roi_numba.__main__ import main; main(['info']); "
        "heavy = {'cupy', 'torch', 'jax', 'ml_dtypes', 'matplotlib', 'numba.cuda'}; "
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_command_line_runs_as_a_module():
    command = [sys.executable, "-m", "roi_numba", "info"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("roi_numba:")


class Driver:
    """A CUDA driver with two devices, or one that cannot start."""

    def __init__(self, status=0):
        self.status = status

    def cuInit(self, flags):
        return self.status

    def cuDriverGetVersion(self, version):
        version._obj.value = 13010
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = 2
        return 0

    def cuDeviceGet(self, device, index):
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name, length, device):
        name.value = b"Device %d" % device.value
        return 0


def test_info_names_cuda_devices(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    assert _info._cuda() == "driver for CUDA 13.1, Device 0, Device 1"
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(status=100))
    assert _info._cuda() == "driver found, but cuInit returned 100"

    def absent(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", absent)
    assert _info._cuda() == "no driver"
