"""Write what mmcv's CUDA kernels make of boxes of every sort, beside this file.

python tests/data/compat/make_mmcv.py mmcv-2.2.0/mmcv/ops/csrc/common/cuda

The argument is that folder of mmcv's source; its kernels are compiled for the CPU with g++, without
the fused multiply-add that a GPU may use.
"""

import ctypes
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

SHIM = """
#pragma once
#include <algorithm>
#include <cfloat>
#include <cmath>
#define __global__
#define __device__
struct { int x = 0, y = 0; } blockIdx, threadIdx;
struct { int x = 1, y = 1; } blockDim, gridDim;
using std::max;
using std::min;
template <typename T> void atomicAdd(T *where, T value) { *where += value; }
#include "common_cuda_helper.hpp"
"""
CALLS = """
#include "roi_pool_cuda_kernel.cuh"
#include "roi_align_cuda_kernel.cuh"
extern "C" void pool(int n, float *input, float *rois, float *output, int *argmax, int ph, int pw,
                     float scale, int c, int h, int w) {
  roi_pool_forward_cuda_kernel(n, input, rois, output, argmax, ph, pw, scale, c, h, w);
}
extern "C" void align(int n, float *input, float *rois, float *output, float *y, float *x, int ph,
                      int pw, float scale, int ratio, int mode, bool aligned, int c, int h, int w) {
  roi_align_forward_cuda_kernel(n, input, rois, output, y, x, ph, pw, scale, ratio, mode, aligned,
                                c, h, w);
}
"""

folder = Path(__file__).parent
with tempfile.TemporaryDirectory() as place:
    for name, text in {"cuda.h": "", "pytorch_cuda_helper.hpp": SHIM, "calls.cpp": CALLS}.items():
        Path(place, name).write_text(text)
    built = Path(place, "calls.so")
    flags = ["-O1", "-shared", "-fPIC", "-ffp-contract=off", "-I", place, "-I", sys.argv[1]]
    subprocess.run(["g++", *flags, str(Path(place, "calls.cpp")), "-o", str(built)], check=True)
    kernels = ctypes.CDLL(str(built))

with np.load(folder.parent / "torchvision_roi_align_f32_sr2_al1_7x7_s16.npz") as file:
    features, rois = file["features"], np.ascontiguousarray(file["rois"])
# A kernel leaves memory unwritten, zeros in mmcv, where a box has no area.
pooled = np.zeros((len(rois), features.shape[1], 3, 2), np.float32)
argmax, places = np.zeros(pooled.shape, np.int32), np.zeros((2, *pooled.shape), np.float32)
size, scale = (3, 2), 1 / 16


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


def save(name, call, **options):
    np.savez_compressed(
        folder / f"mmcv_{name}.npz",
        peer="CUDA kernels of mmcv 2.2.0, compiled for the CPU",
        call=call,
        features=features,
        rois=rois,
        output_size=np.array(size),
        spatial_scale=scale,
        expected=pooled,
        **options,
    )


maps = features.shape[1:]
first = pooled.size, pointer(features), pointer(rois), pointer(pooled)
kernels.pool(*first, pointer(argmax), *size, ctypes.c_float(scale), *maps)
save("roi_pool", "roi_pool(features, rois, output_size, spatial_scale)")
for mode, pool_mode in enumerate(("max", "avg")):
    where = [pointer(place) for place in places]
    kernels.align(*first, *where, *size, ctypes.c_float(scale), 2, mode, True, *maps)
    save(
        f"roi_align_{pool_mode}",
        "roi_align(features, rois, output_size, spatial_scale, 2, pool_mode)",
        pool_mode=pool_mode,
    )
