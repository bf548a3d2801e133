"""Compare the records of torchvision beside this file with torchvision, or write them anew.

python tests/data/make_torchvision.py           # with torchvision 0.29.2
python tests/data/make_torchvision.py --write   # its results in place of those recorded

Maps, boxes, upstream gradients and options are those of the files.  Exits with 1 if a result is
further from its record than sums in another order are, 1e-5 of the largest, 1e-13 in float64.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torchvision
from torchvision import ops
from torchvision.ops.poolers import _infer_scale, initLevelMapper


def pooled(stored):
    """Results of roi_align or roi_pool, and the gradient to the map."""
    features = torch.tensor(stored["features"], requires_grad=True)
    options = {
        name: stored[name].item() for name in ("sampling_ratio", "aligned") if name in stored
    }
    output = getattr(ops, str(stored["op"]))(
        features,
        torch.tensor(stored["rois"]),
        tuple(stored["output_size"].tolist()),
        stored["spatial_scale"].item(),
        **options,
    )
    output.backward(torch.tensor(stored["grad_output"]))
    return {"expected": output.detach(), "expected_grad_features": features.grad}


def from_pyramid(stored):
    """Results of MultiScaleRoIAlign, its scales and levels."""
    maps = {str(i): torch.tensor(stored[f"features{i}"]) for i in range(4)}
    boxes = [torch.tensor(stored[f"boxes_image{i}"]) for i in range(2)]
    size, canonical = stored["image_size"].tolist(), ("canonical_scale", "canonical_level")
    canonical = {name: stored[name].item() for name in canonical}
    pooler = ops.MultiScaleRoIAlign(
        list(maps), tuple(stored["output_size"].tolist()), stored["sampling_ratio"].item(),
        **canonical,
    )  # fmt: skip
    output = pooler(maps, boxes, [tuple(size)] * 2)
    scales = [_infer_scale(each, size) for each in maps.values()]
    lowest, highest = (int(-np.log2(scale)) for scale in (scales[0], scales[-1]))
    levels = initLevelMapper(lowest, highest, *canonical.values())(boxes)
    return {"expected": output, "scales": torch.tensor(scales), "levels": levels}


def main(write):
    """Go through the files; the number of those that differ."""
    version, different = f"torchvision {torchvision.__version__}", 0
    for path in sorted(Path(__file__).parent.glob("torchvision_*.npz")):
        with np.load(path) as file:
            stored = dict(file)
        function = from_pyramid if "multiscale" in path.stem else pooled
        results = {name: each.numpy() for name, each in function(stored).items()}
        words = []
        for name, found in results.items():
            record = stored[name]
            precise = found.dtype == np.float64
            allowed = (1e-13 if precise else 1e-5) * np.abs(record).max(initial=1)
            error = np.abs(found - record).max(initial=0) if found.shape == record.shape else np.inf
            words.append(f"{name} {error:.1e}" + " DIFFERENT" * bool(error > allowed))
        different += any("DIFFERENT" in word for word in words)
        print(f"{path.name}: {', '.join(words)}")
        if write:
            typed = {name: each.astype(stored[name].dtype) for name, each in results.items()}
            np.savez_compressed(path, **stored | typed | {"peer_version": version})
    print(f"{different} differ from {version}")
    return different


if __name__ == "__main__":
    sys.exit(bool(main("--write" in sys.argv[1:])))
