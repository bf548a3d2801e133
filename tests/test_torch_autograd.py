"""Derivatives of the operators on tensors: first and second, backward and forward, batched."""

import functools
import itertools

import pytest

from operators import MAXIMA, OPERATORS, REDUCTIONS, ids

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
roi_torch = pytest.importorskip("roi_numba.torch")
from test_torch import on_tensors  # noqa: E402

# torch's own, where forward mode begins.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

EVERY_CASE = pytest.mark.parametrize(
    ("operator", "options"),
    [
        pytest.param(
            operator,
            operator.reductions[reduction] | options,
            id=f"{operator.name}-{reduction}-{i}",
        )
        for operator, reduction in REDUCTIONS
        for i, options in enumerate(operator.all_options())
    ],
)
EVERY_REDUCTION = pytest.mark.parametrize(
    ("operator", "options"),
    [
        pytest.param(operator, operator.reductions[reduction], id=f"{operator.name}-{reduction}")
        for operator, reduction in REDUCTIONS
    ],
)

# Inside, over the edge, and smaller than a pixel; no sample on a pixel, none on the edge.
CORNERS = [[0.63, 0.47, 4.21, 3.36], [-0.71, 1.13, 3.29, 4.87], [2.17, 1.38, 2.61, 1.71]]
IMAGES = [1, 0, 1]
SCALE = 0.9


def arguments(seed=0):
    """A map with all values far apart, so that no winner changes, and boxes."""
    generator = torch.Generator().manual_seed(seed)
    map = torch.randperm(2 * 2 * 4 * 5, generator=generator).double() / 10
    return map.reshape(2, 2, 4, 5), torch.tensor(CORNERS, dtype=torch.float64)


def calling(operator, options, size=2, axis=1):
    """The operator as a function of a map (N, C, H, W) and corners, whatever axis it pools on."""

    def function(map, corners, images=None):
        output = on_tensors(operator)(
            map.movedim(1, axis), corners, size, SCALE, **options, channel_axis=axis,
            batch_indices=torch.tensor(IMAGES) if images is None else images,
        )  # fmt: skip
        return output.movedim(axis, 1)

    return function


def quantized(operator, options):
    """Whether the result does not move as its box gradient says."""
    return operator.name == "roi_warp" and options.get("quantize", True)


def wanted(*tensors):
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


def upstream(function, *tensors):
    shape = function(*tensors).shape
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


TOLERANCES = {"atol": 1e-7, "rtol": 1e-6}
gradcheck = functools.partial(torch.autograd.gradcheck, **TOLERANCES)
gradgradcheck = functools.partial(torch.autograd.gradgradcheck, **TOLERANCES)


# ---- first derivatives ---------------------------------------------------------------------


@EVERY_CASE
def test_gradcheck(operator, options):
    """To the map and the boxes, in reverse and forward mode."""
    function, (map, corners) = calling(operator, options), arguments()
    check = functools.partial(gradcheck, check_forward_ad=True, fast_mode=True)
    if quantized(operator, options):
        assert check(lambda map: function(map, corners), wanted(map))
    else:
        assert check(function, wanted(map, corners))


@EVERY_REDUCTION
def test_gradcheck_entry_by_entry(operator, options):
    """Channels last, bins of different numbers."""
    options = options | ({"quantize": False} if operator.name == "roi_warp" else {})
    function, (map, corners) = calling(operator, options, (3, 1), axis=-1), arguments()
    assert gradcheck(function, wanted(map, corners))
    assert gradgradcheck(lambda map: function(map, corners), wanted(map))


@EVERY_REDUCTION
def test_batched_gradients(operator, options):
    """vmap over the backward, as `is_grads_batched` does."""
    function, (map, corners) = calling(operator, options), wanted(*arguments())
    output = function(map, corners)
    gradients = torch.stack([upstream(function, map, corners) * i for i in (1, -2, 3)])
    both = torch.autograd.grad(
        output, (map, corners), gradients, is_grads_batched=True, retain_graph=True
    )
    for i, gradient in enumerate(gradients):
        single = torch.autograd.grad(output, (map, corners), gradient, retain_graph=True)
        assert torch.equal(both[0][i], single[0])
        assert torch.equal(both[1][i], single[1])


@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_straight_through(reduce):
    """A box that is rounded has the gradients of the rounded box."""
    map, corners = arguments()
    options = {"reduce": reduce, "sampling_ratio": 2}
    rounded = (corners * SCALE).sign() * ((corners * SCALE).abs() + 0.5).floor() / SCALE
    for tensors in ((map, corners), (map, rounded)):
        function = calling(OPERATORS[2], options)
        leaves = wanted(*tensors)
        found = torch.autograd.grad(function(*leaves), leaves, upstream(function, *tensors))
        tangent = torch.func.jvp(function, tensors, tensors)[1]
        if tensors[1] is corners:
            expected, expected_tangent = (
                found,
                torch.func.jvp(function, (map, rounded), (map, corners))[1],
            )
        else:
            assert torch.allclose(found[0], expected[0])
            assert torch.allclose(found[1], expected[1])
            tangent = torch.func.jvp(function, tensors, (map, corners))[1]
            assert torch.allclose(tangent, expected_tangent)


@pytest.mark.parametrize(("operator", "reduction"), MAXIMA, ids=ids)
def test_argmax_is_not_differentiable(operator, reduction):
    map, corners = wanted(*arguments())
    output, argmax = on_tensors(operator)(
        map, corners, 2, batch_indices=torch.tensor(IMAGES), return_argmax=True,
        **operator.reductions[reduction],
    )  # fmt: skip
    assert output.requires_grad
    assert not argmax.requires_grad


@EVERY_REDUCTION
def test_the_batch_column_has_no_gradient(operator, options):
    map, corners = arguments()
    rows = torch.cat([torch.tensor(IMAGES)[:, None], corners], 1)
    map, rows = wanted(map, rows)
    on_tensors(operator)(map, rows, 2, SCALE, **options).sum().backward()
    function, leaves = calling(operator, options), wanted(map, corners)
    function(*leaves).sum().backward()
    assert torch.equal(map.grad, leaves[0].grad)
    assert torch.equal(rows.grad, torch.nn.functional.pad(leaves[1].grad, (1, 0)))
    tangents = torch.func.jvp(
        lambda rows: on_tensors(operator)(map, rows, 2, SCALE, **options), (rows,), (rows,)
    )[1]
    expected = torch.func.jvp(lambda c: function(map, c), (corners,), (corners,))[1]
    assert torch.equal(tangents, expected)


def test_same_bits_every_time():
    function = calling(OPERATORS[1], {})
    map, corners = wanted(*arguments())
    gradients = [
        torch.autograd.grad(function(map, corners).square().sum(), (map, corners)) for _ in range(3)
    ]
    for again in gradients[1:]:
        assert all(torch.equal(one, other) for one, other in zip(again, gradients[0], strict=True))


# ---- second derivatives --------------------------------------------------------------------


@EVERY_CASE
def test_gradgradcheck(operator, options):
    """Over the upstream gradient and the map, whose gradient is linear in both."""
    function, (map, corners) = calling(operator, options), arguments()
    assert gradgradcheck(lambda map: function(map, corners), wanted(map), fast_mode=True)


@EVERY_REDUCTION
def test_the_gradient_of_boxes_is_differentiable(operator, options):
    """With respect to the upstream gradient and the map."""
    function, (map, corners) = calling(operator, options), arguments()
    gradient = upstream(function, map, corners)

    def of_boxes(gradient, map):
        boxes = corners.clone().requires_grad_()
        return torch.autograd.grad(function(map, boxes), boxes, gradient, create_graph=True)[0]

    assert gradcheck(of_boxes, wanted(gradient, map), check_forward_ad=True)


@EVERY_REDUCTION
def test_the_gradient_of_maps_moves_with_the_boxes(operator, options):
    """That is no second derivative with respect to them."""
    options = options | ({"quantize": False} if operator.name == "roi_warp" else {})
    function, (map, corners) = calling(operator, options), arguments()
    gradient = upstream(function, map, corners)

    def of_map(gradient, corners):
        leaf = map.clone().requires_grad_()
        return torch.autograd.grad(function(leaf, corners), leaf, gradient, create_graph=True)[0]

    assert gradcheck(of_map, wanted(gradient, corners), check_forward_ad=True)


@EVERY_REDUCTION
def test_the_rate_of_change_is_differentiable(operator, options):
    """Backward over forward, with respect to the map and the motion."""
    function, (map, corners) = calling(operator, options), arguments()

    def rate(map, motion):
        return torch.func.jvp(lambda boxes: function(map, boxes), (corners,), (motion,))[1]

    motion = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4)
    assert gradcheck(rate, wanted(map, motion))
    tangent = torch.func.jvp(rate, (map, motion), (3 * map, motion.cos()))[1]  # the same winners
    torch.testing.assert_close(tangent, rate(3 * map, motion) + rate(map, motion.cos()))


@EVERY_REDUCTION
def test_no_second_derivative_of_boxes(operator, options):
    """Asked for in any way it is refused, and only then."""
    function, (map, corners) = calling(operator, options), wanted(*arguments())
    refused = pytest.raises(NotImplementedError, match=r"second derivative .* boxes is not impl")
    if not quantized(operator, options):
        with refused:
            torch.autograd.gradgradcheck(function, (map, corners))
    (gradient,) = torch.autograd.grad(function(map, corners).sum(), corners, create_graph=True)
    with refused:
        torch.autograd.grad(gradient.sum(), corners, retain_graph=True)
    with refused:
        gradient.sum().backward(retain_graph=True)
    gradient.sum().backward(inputs=[map])
    assert map.grad.shape == map.shape
    sum_of = lambda corners: function(map.detach(), corners).sum()  # noqa: E731
    for hessian in (
        torch.func.hessian(sum_of),
        torch.func.jacrev(torch.func.jacrev(sum_of)),
        torch.func.jacfwd(torch.func.jacfwd(sum_of)),
        torch.func.jacrev(torch.func.jacfwd(sum_of)),
    ):
        with refused:
            hessian(corners.detach())


# ---- torch.func ----------------------------------------------------------------------------


@EVERY_REDUCTION
def test_vjp_and_jvp(operator, options):
    """They are those of autograd, and of each other."""
    function, (map, corners) = calling(operator, options), arguments()
    output, pull = torch.func.vjp(function, map, corners)
    gradient = upstream(function, map, corners)
    leaves = wanted(map, corners)
    expected = torch.autograd.grad(function(*leaves), leaves, gradient)
    found = pull(gradient)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    tangents = torch.randn_like(map), torch.randn_like(corners)
    same, tangent = torch.func.jvp(function, (map, corners), tangents)
    assert torch.equal(same, output)
    pulled = sum((one * other).sum() for one, other in zip(found, tangents, strict=True))
    torch.testing.assert_close((gradient * tangent).sum(), pulled)


@EVERY_REDUCTION
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_rates_of_short_floats(operator, options, dtype):
    """Each way a box moves gives float32, and their sum is rounded once."""
    function, (map, corners) = calling(operator, options), arguments()
    short, motion = (map / 7).to(dtype), corners.cos()

    def rate(map):
        return torch.func.jvp(lambda boxes: function(map, boxes), (corners,), (motion,))

    (output, tangent), (wide_output, wide) = rate(short), rate(short.float())
    assert torch.equal(output, wide_output.to(dtype))
    assert torch.equal(tangent, wide.to(dtype))


def batch(tensor, dim):
    """Three of a kind along a new axis, or just the one."""
    return tensor if dim is None else torch.stack([tensor, tensor * 0.9, tensor * 0.8], dim)


def each(function, dims, tensors):
    """What vmap does, in a loop."""
    rows = [
        function(*(t if d is None else t.select(d, i) for t, d in zip(tensors, dims, strict=True)))
        for i in range(3)
    ]
    if isinstance(rows[0], tuple):
        return tuple(torch.stack(parts) for parts in zip(*rows, strict=True))
    return torch.stack(rows)


IN_DIMS = [
    dims
    for dims in itertools.product([None, 0, 1], [None, 0, 2])
    if any(d is not None for d in dims)
]


@EVERY_REDUCTION
@pytest.mark.parametrize("rows", [False, True], ids=["indexed", "rows"])
def test_vmap(operator, options, rows):
    """Of results, gradients and tangents: the same bits as one by one."""
    map, corners = arguments()
    images = torch.tensor(IMAGES)

    def pool(map, corners):
        if rows:
            boxes, more = torch.cat([images[:, None], corners], 1), {}
        else:
            boxes, more = corners, {"batch_indices": images}
        return on_tensors(operator)(map, boxes, 2, SCALE, **options, **more)

    def gradients(map, corners):
        return torch.func.grad(lambda *both: pool(*both).square().sum(), (0, 1))(map, corners)

    def tangent(map, corners):
        return torch.func.jvp(pool, (map, corners), (map, corners))[1]

    for function in (pool, gradients, tangent):
        for dims in IN_DIMS:
            tensors = [batch(t, d) for t, d in zip((map, corners), dims, strict=True)]
            found = torch.vmap(function, dims)(*tensors)
            expected = each(function, dims, tensors)
            if function is not gradients:
                found, expected = (found,), (expected,)
            assert all(torch.equal(*both) for both in zip(found, expected, strict=True))


@pytest.mark.parametrize(("operator", "reduction"), MAXIMA, ids=ids)
def test_vmap_of_winners_and_images(operator, reduction):
    """Batch indices may be mapped over too; bad ones stay bad."""
    map, corners = arguments()

    def pool(map, images):
        return on_tensors(operator)(
            map, corners, 2, batch_indices=images, return_argmax=True, check_boxes=False,
            **operator.reductions[reduction],
        )  # fmt: skip

    maps = batch(map, 0)
    images = torch.tensor([[0, 1, 0], [1, 2, -1], [-7, 1, 5]])
    found = torch.vmap(pool)(maps, images)
    expected = each(pool, (0, 0), (maps, images))
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    with pytest.raises(IndexError, match="batch_indices must be in"):
        torch.vmap(lambda map, images: on_tensors(operator)(map, corners, 2, batch_indices=images))(
            maps, images
        )


def test_vmap_twice_and_jacobians():
    function, (map, corners) = calling(OPERATORS[3], {}), arguments()
    maps, boxes = batch(map, 0), batch(corners, 1)
    found = torch.vmap(torch.vmap(function, (None, 1)), (0, None))(maps, boxes)
    expected = torch.stack(
        [torch.stack([function(m, boxes[:, i]) for i in range(3)]) for m in maps]
    )
    assert torch.equal(found, expected)
    forward = torch.func.jacfwd(function, (0, 1))(map, corners)
    backward = torch.func.jacrev(function, (0, 1))(map, corners)
    torch.testing.assert_close(forward, backward)
    hessian = torch.func.hessian(lambda map: function(map, corners).square().sum())(map)
    jacobian = forward[0].reshape(-1, map.numel())
    torch.testing.assert_close(hessian.reshape(map.numel(), -1), 2 * jacobian.T @ jacobian)
