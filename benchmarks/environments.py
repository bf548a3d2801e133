"""An isolated environment for each peer: peers pin packages that cannot live beside each other."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from . import peers

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".bench"
THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TBB_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "ROI_NUMBA_NUM_THREADS",
)


def _interpreter(name: str) -> Path:
    folder = FOLDER / name
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def python_for(name: str) -> str | None:
    """The interpreter that can import the peer: this one first, then its own; None if neither."""
    if importlib.util.find_spec(peers.load(name).MODULE):
        return sys.executable
    own = _interpreter(name)
    return str(own) if own.exists() else None


def install(name: str) -> None:
    """Make the peer's environment under ``.bench/`` and install it from the registry."""
    python = _interpreter(name)
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(FOLDER / name)], check=True)
    packages = dict.fromkeys((*peers.load(name).PACKAGES, "numpy"))
    subprocess.run([str(python), "-m", "pip", "install", *packages], check=True)


def with_threads(threads: int) -> dict[str, str]:
    """Environment of a worker: the libraries read these when they are loaded."""
    return os.environ | dict.fromkeys(THREADS, str(threads))
