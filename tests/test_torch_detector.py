"""A client: the second stage of a detector, trained with our operator or a peer's in its place.

The losses and gradients must not depend on whose it is.
"""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
roi_torch = pytest.importorskip("roi_numba.torch")

STRIDE, BINS, CLASSES = 4, 5, 4
SETTINGS = {"output_size": BINS, "spatial_scale": 1 / STRIDE, "sampling_ratio": 2}


def interpolation(low, high, size, aligned):
    """RoIAlign along one axis as a matrix (boxes, bins, pixels), from torch's own operations."""
    start = low / STRIDE - 0.5 * aligned
    length = high / STRIDE - 0.5 * aligned - start
    if not aligned:
        length = length.clamp(min=1)
    count = BINS * SETTINGS["sampling_ratio"]
    share = (torch.arange(count) + 0.5) / count
    position = start[:, None] + share * length[:, None]
    inside = (position >= -1) & (position <= size)
    position = position.clamp(0, size - 1)
    pixels = torch.arange(size)
    weights = (1 - (position[..., None] - pixels).abs()).clamp(min=0) * inside[..., None]
    return weights.unflatten(1, (BINS, -1)).mean(2)


def plain_roi_align(input, boxes, aligned):
    """RoIAlign by dense matrices."""
    pooled = []
    for map, (x1, y1, x2, y2) in zip(input, (part.T for part in boxes), strict=True):
        rows = interpolation(y1, y2, input.shape[2], aligned)
        columns = interpolation(x1, x2, input.shape[3], aligned)
        pooled.append(torch.einsum("kph,chw,kqw->kcpq", rows, map, columns))
    return torch.cat(pooled)


def plain(aligned):
    return lambda input, boxes: plain_roi_align(input, boxes, aligned)


class Detector(torch.nn.Module):
    """Features, pooled boxes, scores and corrections of the boxes: Fast R-CNN in small."""

    def __init__(self, pool):
        super().__init__()
        torch.manual_seed(3)
        self.backbone = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, stride=2, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(8, 16, 3, stride=2, padding=1),
            torch.nn.ReLU(),
        )
        self.head = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(16 * BINS**2, 32), torch.nn.ReLU()
        )
        self.scores = torch.nn.Linear(32, CLASSES)
        self.corrections = torch.nn.Linear(32, 4)
        self.pool = pool

    def forward(self, images, proposals, labels, targets):
        self.map = self.backbone(images)
        self.map.retain_grad()
        pooled = self.head(self.pool(self.map, proposals))
        return {
            "classes": torch.nn.functional.cross_entropy(self.scores(pooled), labels),
            "boxes": torch.nn.functional.smooth_l1_loss(self.corrections(pooled), targets),
        }


def scene():
    """Two images, proposals inside and over their edges, and what they should become."""
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(2, 3, 64, 80, generator=generator)
    corners = torch.rand(2, 12, 2, generator=generator) * torch.tensor([80, 64]) - 10
    sizes = torch.rand(2, 12, 2, generator=generator) * 40 + 0.5
    proposals = list(torch.cat([corners, corners + sizes], 2).split([1, 1]))
    proposals = [proposals[0][0], proposals[1][0, :7]]
    labels = torch.randint(CLASSES, (19,), generator=generator)
    return images, proposals, labels, torch.randn(19, 4, generator=generator)


def trained(pool, steps=2):
    """Losses of a few steps; gradients of the map, the boxes and all parameters in the last."""
    images, proposals, labels, targets = scene()
    detector = Detector(pool)
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.05)
    proposals = [part.requires_grad_() for part in proposals]
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = detector(images, proposals, labels, targets)
        sum(loss.values()).backward()
        losses += loss.values()
        optimizer.step()
    gradients = [parameter.grad for parameter in detector.parameters()]
    boxes = [part.grad for part in proposals if part.grad is not None]
    return torch.stack(losses).detach(), detector.map.grad, gradients, boxes


def assert_close(actual, expected):
    """To 1e-5 of the largest."""
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * other.abs().max().item())


@pytest.mark.parametrize("aligned", [False, True])
def test_the_detector_learns_the_same(aligned):
    """With boxes that have gradients too: no other library's RoIAlign has them."""
    ours = trained(roi_torch.RoIAlign(*SETTINGS.values(), aligned))
    theirs = trained(plain(aligned))
    assert_close(ours[:2], theirs[:2])
    assert_close(ours[2], theirs[2])
    assert_close(ours[3], theirs[3])
    assert all(part.any() for part in ours[3])


@pytest.mark.parametrize("aligned", [False, True])
def test_in_the_place_of_torchvisions(aligned):
    ops = pytest.importorskip("torchvision", reason="torchvision is not installed").ops
    ours = trained(roi_torch.RoIAlign(*SETTINGS.values(), aligned))
    theirs = trained(ops.RoIAlign(*SETTINGS.values(), aligned))
    assert_close(ours[:2], theirs[:2])
    assert_close(ours[2], theirs[2])
    pairs = [(roi_torch.RoIAlign(7, 0.25, 2), ops.RoIAlign(7, 0.25, 2))]
    pairs += [(roi_torch.RoIPool((7, 7), 0.25), ops.RoIPool((7, 7), 0.25))]
    for mine, other in pairs:
        assert repr(mine) == repr(other)


def test_roi_pool_in_the_place_of_torchvisions():
    ops = pytest.importorskip("torchvision", reason="torchvision is not installed").ops
    ours = trained(roi_torch.RoIPool(BINS, 1 / STRIDE, bins="float"))
    theirs = trained(ops.RoIPool(BINS, 1 / STRIDE))
    assert_close(ours[:2], theirs[:2])
    assert_close(ours[2], theirs[2])


def test_a_box_moves_onto_its_object(tmp_path):
    """The example of the documents: every box arrives, and the picture is drawn."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    path = Path(__file__).parents[1] / "docs" / "box_descent.py"
    example = SimpleNamespace(**runpy.run_path(str(path)))
    sharp = example.portrait()
    maps = [example.blurred(sharp, blur / example.STRIDE) for blur in example.BLURS]
    steps = example.descend(maps)
    assert steps[0].overlaps.max() < 0.1
    assert steps[-1].overlaps.min() > 0.99
    example.draw(maps, steps, sharp, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 100_000
