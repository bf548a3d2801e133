"""Pyramids of tensors: the array level's bits, and all derivatives that the operators have."""

import functools
from unittest import mock

import numpy as np
import pytest

import roi_numba
from operators import REDUCTIONS
from roi_numba._cpu import engine
from strategies import values

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
roi_torch = pytest.importorskip("roi_numba.torch")
roi_torch_pyramid = roi_torch.pyramid_pool

# torch's own, where forward mode begins.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

# Every reduction, without the rounding that box gradients go straight through.
CASES = [
    pytest.param(
        operator,
        operator.reductions[reduction]
        | {"roi_warp": {"quantize": False}, "roi_align": {"sampling_ratio": 2}}.get(
            operator.name, {}
        ),
        id=f"{operator.name}-{reduction}",
    )
    for operator, reduction in REDUCTIONS
]
CASES_BY_ID = {case.id: case.values for case in CASES}
EVERY_CASE = pytest.mark.parametrize(("operator", "options"), CASES)

SCALES = [1 / 2, 1 / 4, (1 / 8, 0.11)]
SIZES = [(8, 9), (4, 5), (3, 3)]
LEVELS = torch.tensor([0, 2, 1, 1])
# No sample on a pixel, none on the edge of its map.
BOXES = torch.tensor(
    [[0, 1.3, 0.9, 8.3, 6.7], [1, 2.3, 3.1, 17.9, 16.3], [1, 0.7, 1.1, 9.7, 8.3],
     [0, -1.7, 2.9, 6.1, 11.3]], dtype=torch.float64,
)  # fmt: skip
HOW = ["sum", "mean", "max", "concat"]


def maps(seed=0):
    """All values far apart, so that no winner changes."""
    counts = [2 * 2 * height * width for height, width in SIZES]
    numbers = np.random.default_rng(seed).permutation(sum(counts)) / 10
    parts = torch.from_numpy(numbers).split(counts)
    return [part.reshape(2, 2, *size) for part, size in zip(parts, SIZES, strict=True)]


def calling(operator, options, size=2, **more):
    """The pyramid as a function of boxes and maps."""
    more = {"spatial_scales": SCALES, "levels": LEVELS} | options | more

    def function(boxes, *inputs):
        op = getattr(roi_torch, operator.name)
        return roi_torch_pyramid(op, list(inputs), boxes, size, **more)

    return function


def on_arrays(function, operator, *arguments, **options):
    options = {"spatial_scales": SCALES, "levels": LEVELS} | options
    return function(operator.function, *arguments, **options)


def wanted(*tensors):
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


def upstream(output, seed=1):
    return torch.from_numpy(values(seed, tuple(output.shape), np.float64)).to(output.dtype)


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def assert_close(found, expected):
    """Composed gradients add in another order."""
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


# ---- the numbers of the array level --------------------------------------------------------


@EVERY_CASE
def test_same_bits_as_the_array_level(operator, options):
    function, leaves = calling(operator, options), wanted(BOXES, *maps())
    output = function(*leaves)
    expected = on_arrays(roi_numba.pyramid_pool, operator, maps(), BOXES, 2, **options)
    assert torch.equal(output, expected)
    assert torch.equal(function(BOXES, *maps()), expected)
    grad = upstream(output)
    to_maps, to_boxes = on_arrays(
        roi_numba.pyramid_pool_backward, operator, grad, maps(), BOXES, **options
    )
    assert_equal(torch.autograd.grad(output, leaves, grad), [to_boxes, *to_maps])


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("how", HOW)
@EVERY_CASE
def test_all_levels(operator, options, how, axis):
    inputs = [features.movedim(1, axis) for features in maps()]
    more = options | {"reduce_levels": how, "channel_axis": axis, "levels": None}
    leaves = wanted(BOXES, *inputs)
    output = calling(operator, more)(*leaves)
    expected = on_arrays(roi_numba.pyramid_pool, operator, inputs, BOXES, 2, **more)
    assert torch.equal(output, expected)
    grad = upstream(output)
    to_maps, to_boxes = on_arrays(
        roi_numba.pyramid_pool_backward, operator, grad, inputs, BOXES, **more
    )
    assert_close(torch.autograd.grad(output, leaves, grad), [to_boxes, *to_maps])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.uint8], ids=str)
def test_dtypes(dtype):
    inputs, boxes = [features.to(dtype) for features in maps()], BOXES.float()
    op = roi_torch.roi_align
    options = {"spatial_scales": SCALES, "levels": LEVELS}
    leaves = [each.requires_grad_(each.is_floating_point()) for each in (boxes.clone(), *inputs)]
    output = roi_torch_pyramid(op, leaves[1:], leaves[0], 2, **options)
    expected = roi_numba.pyramid_pool(
        roi_numba.roi_align, [each.detach() for each in inputs], boxes, 2, **options
    )
    assert output.dtype == expected.dtype
    assert torch.equal(output, expected)
    leaves = [leaf for leaf in leaves if leaf.requires_grad]
    found = torch.autograd.grad(output.sum(), leaves)
    assert [each.dtype for each in found] == [leaf.dtype for leaf in leaves]
    assert all(each.any() for each in found)


def test_levels_of_the_paper():
    """Composed too, where an op of torch assigns them."""
    sides = torch.tensor([10.0, 111, 112, 223, 224, 447, 448, 900])
    boxes = torch.nn.functional.pad(torch.stack([sides, sides], 1), (3, 0))
    inputs = [torch.full((1, 1, 2, 2), float(level)) for level in range(4)]

    def pooled(boxes):
        scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
        op = roi_torch.roi_pool
        return roi_torch_pyramid(op, inputs, boxes, 1, spatial_scales=scales).flatten()

    expected = [0, 0, 1, 1, 2, 2, 3, 3]
    assert pooled(boxes).tolist() == expected
    assert torch.vmap(pooled)(boxes[None]).tolist() == [expected]
    both = torch.vmap(pooled)(torch.stack([boxes, boxes.flip(0)]))
    assert both[1].tolist() == expected[::-1]


def test_boxes_in_any_form():
    order = BOXES[:, 0].argsort(stable=True)
    rows, levels = BOXES[order], LEVELS[order]
    parts = wanted(rows[:2, 1:], rows[2:, 1:])
    corners = wanted(rows[:, 1:])[0]
    call = functools.partial(
        roi_torch_pyramid, roi_torch.prroi_pool, maps(), output_size=2,
        spatial_scales=SCALES, levels=levels,
    )  # fmt: skip
    expected = call(boxes=rows)
    listed, indexed = call(boxes=parts), call(boxes=corners, batch_indices=rows[:, 0].long())
    assert torch.equal(listed, expected)
    assert torch.equal(indexed, expected)
    assert torch.equal(call(boxes=rows.numpy()), expected)
    grad = upstream(expected)
    (found,) = torch.autograd.grad(indexed, [corners], grad)
    assert torch.equal(torch.cat(torch.autograd.grad(listed, parts, grad)), found)


@pytest.mark.parametrize(
    ("operator", "options"), [case for case in CASES if not case.id.endswith("mean")]
)
def test_argmax(operator, options):
    leaves = wanted(BOXES, *maps())
    output, argmax = calling(operator, options, return_argmax=True)(*leaves)
    options = options | {"return_argmax": True}
    expected = on_arrays(roi_numba.pyramid_pool, operator, maps(), BOXES, 2, **options)
    assert_equal((output, argmax), expected)
    assert output.requires_grad
    assert not argmax.requires_grad
    function = calling(operator, options)
    both = torch.vmap(lambda boxes: function(boxes, *maps()))(BOXES[None])
    assert_equal((both[0][0], both[1][0]), expected)


def test_one_call_of_the_engine():
    leaves = wanted(BOXES, *maps())
    with (
        mock.patch.object(engine, "pool") as alone,
        mock.patch.object(engine, "pool_levels", wraps=engine.pool_levels) as together,
    ):
        calling(REDUCTIONS[0][0], {})(*leaves)
    assert (alone.call_count, together.call_count) == (0, 1)


def test_saves_no_map_it_does_not_need():
    leaves = [BOXES, *wanted(*maps())]
    for boxes in (BOXES, *wanted(BOXES)):
        output = calling(*CASES_BY_ID["prroi_pool-mean"])(boxes, *leaves[1:])
        saved = {each.data_ptr() for each in output.grad_fn.saved_tensors if each is not None}
        maps_saved = saved & {each.data_ptr() for each in leaves[1:]}
        assert len(maps_saved) == (3 if boxes.requires_grad else 0)


# ---- derivatives ---------------------------------------------------------------------------

gradcheck = functools.partial(torch.autograd.gradcheck, atol=1e-7, rtol=1e-6, fast_mode=True)
gradgradcheck = functools.partial(torch.autograd.gradgradcheck, atol=1e-7, rtol=1e-6)


@EVERY_CASE
def test_gradcheck(operator, options):
    """To boxes and maps, in reverse and forward mode."""
    function = calling(operator, options, (2, 1), batch_indices=BOXES[:, 0].long())
    assert gradcheck(function, wanted(BOXES[:, 1:], *maps()), check_forward_ad=True)


@EVERY_CASE
def test_second_derivatives(operator, options):
    """To the maps; with the boxes once, and twice never."""
    function = calling(operator, options, (1, 2))
    assert gradgradcheck(lambda *inputs: function(BOXES, *inputs), wanted(*maps()), fast_mode=True)
    boxes, *inputs = wanted(BOXES, *maps())
    output = function(boxes, *inputs)
    first = torch.autograd.grad(output.square().sum(), [boxes, *inputs], create_graph=True)
    if operator.name != "roi_pool":
        assert gradcheck(
            lambda first_map: torch.autograd.grad(
                function(boxes, first_map, *inputs[1:]).sum(), boxes, create_graph=True
            )[0],
            wanted(inputs[0]),
        )
        with pytest.raises(NotImplementedError, match=r"second derivative .* boxes is not impl"):
            torch.autograd.grad(first[0].sum(), boxes)


@EVERY_CASE
def test_transforms(operator, options):
    """torch.func, and gradients in batches, say what autograd does."""
    function, leaves = calling(operator, options), wanted(BOXES, *maps())
    output = function(*leaves)
    grad = upstream(output)
    expected = torch.autograd.grad(output, leaves, grad, retain_graph=True)
    _, pull = torch.func.vjp(function, BOXES, *maps())
    assert_close(pull(grad), expected)
    batched = torch.autograd.grad(
        output, leaves, torch.stack([grad, -2 * grad]), is_grads_batched=True
    )
    assert_close([each[1] for each in batched], [-2 * each for each in expected])
    tangents = [upstream(each, 5) for each in leaves]
    _, rate = torch.func.jvp(function, (BOXES, *maps()), tuple(tangents))
    moved = sum((one * other).sum() for one, other in zip(expected, tangents, strict=True))
    torch.testing.assert_close((rate * grad).sum(), moved)
    both = torch.stack([maps()[1], maps(3)[1]])
    found = torch.vmap(lambda one: function(BOXES, maps()[0], one, maps()[2]))(both)
    assert torch.equal(found[0], output)
    assert torch.equal(found[1], function(BOXES, maps()[0], both[1], maps()[2]))


@pytest.mark.parametrize("case", ["roi_align-mean", "roi_pool-max"])
def test_compiled(case):
    """In one graph, backward too."""
    function = calling(*CASES_BY_ID[case])
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    leaves = wanted(BOXES, *maps())
    output, found = function(*leaves), compiled(*leaves)
    assert torch.equal(found, output)
    grad = upstream(output)
    expected = torch.autograd.grad(output, leaves, grad)
    assert_close(torch.autograd.grad(found, leaves, grad), expected)


# ---- what is refused -----------------------------------------------------------------------


def bad_row(column, value):
    boxes = BOXES.clone()
    boxes[1, column] = value
    return boxes


BAD = [
    pytest.param(IndexError, r"must be in \[0, 2\)", {"boxes": bad_row(0, 7)}, id="image"),
    pytest.param(ValueError, "must be finite", {"boxes": bad_row(3, torch.nan)}, id="nan"),
    pytest.param(
        IndexError,
        r"must be in \[0, 3\), got 3",
        {"levels": torch.tensor([0, 3, 1, 1])},
        id="level",
    ),
]


def of_plain(**changed):
    arguments = {"op": roi_torch.roi_align, "inputs": maps(), "boxes": BOXES, "output_size": 2}
    arguments |= {"spatial_scales": SCALES, "levels": LEVELS} | changed
    return roi_torch_pyramid(**arguments)


@pytest.mark.parametrize("composed", [False, True])
@pytest.mark.parametrize(("error", "message", "changed"), BAD)
def test_bad_boxes(error, message, changed, composed):
    """They raise, eager or composed; unchecked they give zeros and have no gradient."""

    def pooled(first, **more):
        return of_plain(inputs=[first, *maps()[1:]], **changed, **more)

    call = torch.vmap(pooled) if composed else pooled
    first = maps()[0][None] if composed else maps()[0]
    with pytest.raises(error, match=message):
        call(first)
    good = of_plain().index_fill(0, torch.tensor(1), 0)
    found = torch.vmap(functools.partial(pooled, check_boxes=False))(maps()[0][None])[0]
    assert torch.equal(found, good)
    assert torch.equal(pooled(maps()[0], check_boxes=False), good)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"op": roi_numba.roi_align}, TypeError, "op must be an operator of roi_numba.torch"),
        ({"inputs": [each.numpy() for each in maps()]}, TypeError, r"inputs\[0\] must be a torch"),
        ({"inputs": []}, TypeError, "inputs must be a list of at least one array"),
        ({"inputs": [*maps()[:2], maps()[2].float()]}, TypeError, r"inputs\[2\] must be of dtype"),
        ({"inputs": [*maps()[:2], maps()[2][:1]]}, ValueError, r"inputs\[2\] must have 2 images"),
        ({"levels": [0, 1, 2, 0]}, TypeError, "levels must be an array, got list"),
        ({"levels": None, "spatial_scales": [1, 1, 2]}, ValueError, "levels must be given"),
        ({"reduce_levels": "sum"}, ValueError, "levels must be None with reduce_levels"),
        ({"out": torch.zeros(4, 2, 2, 2)}, TypeError, "roi_align has no option out"),
        ({"channel_axis": 2}, ValueError, "channel_axis must be 1 or -1"),
        (
            {"reduce_levels": "sum", "levels": None, "return_argmax": True},
            ValueError,
            'return_argmax must not be given with reduce_levels="sum"',
        ),
    ],
)
def test_refused(changed, error, message):
    with pytest.raises(error, match=message):
        of_plain(**changed)


def test_alike_where_it_is_composed():
    inputs = [*maps()[:2], maps()[2][:, :1]]
    with pytest.raises(ValueError, match=r"inputs\[2\] must have 2 images of 2 channels"):
        torch.vmap(lambda boxes: of_plain(boxes=boxes, inputs=inputs))(BOXES[None])
