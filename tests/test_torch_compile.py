"""The operators where torch traces: fake tensors, `torch.compile`, `torch.export`, autocast."""

import io

import pytest

from arrays import MATRIX
from operators import REDUCTIONS

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
roi_torch = pytest.importorskip("roi_numba.torch")
from roi_numba._torch_ops import OPS  # noqa: E402
from test_torch import FORMS, SIZE, gradients, in_form, on_tensors  # noqa: E402
from test_torch import features as array_features  # noqa: E402
from test_torch_autograd import EVERY_CASE  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

# Dynamo of torch 2.6 traces nothing of torch.func, and says so in words of its own; 2.13 does.
OLD = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 13)


@pytest.fixture(autouse=True)
def _forget():
    """Dynamo gives up on a function that it has compiled too often, from whichever test."""
    torch._dynamo.reset()


def compiled(function, **options):
    """All in one graph; what Inductor would make of it is not our matter."""
    return torch.compile(function, backend="aot_eager", **{"fullgraph": True} | options)


def features():
    return torch.from_numpy(array_features())[:, :3].contiguous()


def rows():
    return in_form("rows")[0]


def assert_equal(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


# ---- the ops themselves --------------------------------------------------------------------


def settings(operator, options):
    """What an op's arguments end with."""
    own = {name: options.get(name, values[0]) for name, values in operator.options.items()}
    pair = [(value, value) if type(value) is int else value for value in own.values()]
    return 0.5, *pair, operator.reduce(options), 1, None


def sample(operator, suffix, options):
    """An op and arguments for it; boxes require grad where they may."""
    op, end = OPS[operator.name, suffix], settings(operator, options)
    map, boxes, argmax = features(), rows(), None
    if operator.reduce(options) != "mean" and suffix not in ("", "_argmax"):
        argmax = OPS[operator.name, "_argmax"](map, boxes, None, None, SIZE, *end)[1]
    given = {"bins": torch.ones(4, 3, *SIZE).double(), "map": map, "motion": rows().cos()}
    tensors = [given[name].clone().requires_grad_() for name in op.kind.given]
    boxes = boxes.clone().requires_grad_(not op.kind.moving)
    size = {"bins": [SIZE], "map": [tuple(map.shape)], "motion": []}[op.kind.result]
    return op.packet.default, (*tensors, boxes, None, argmax, *size, *end)


@pytest.mark.parametrize(
    ("operator", "reduction", "suffix"),
    [
        pytest.param(operator, reduction, suffix, id=f"{operator.name}{suffix}-{reduction}")
        for operator, reduction in REDUCTIONS
        for suffix in ("", "_argmax", "_grad_input", "_grad_boxes", "_rate", "_rate_grad_input")
        if suffix != "_argmax" or reduction != "mean"
    ],
)
# torch 2.15's opcheck looks at gradients that are not there.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_opcheck(operator, reduction, suffix):
    torch.library.opcheck(*sample(operator, suffix, operator.reductions[reduction]))


@EVERY_CASE
def test_opcheck_of_every_option(operator, options):
    tests = "test_schema", "test_autograd_registration", "test_faketensor"
    torch.library.opcheck(*sample(operator, "", options), test_utils=tests)


@MATRIX
@pytest.mark.parametrize("axis", [1, -1])
def test_meta_tensors(operator, reduction, axis):
    """Shapes and dtypes without values, backward too."""
    input = torch.empty(2, 5, 6, 7, dtype=torch.bfloat16, device="meta", requires_grad=True)
    boxes = torch.empty(9, 5, device="meta", requires_grad=True)
    output = on_tensors(operator)(
        input, boxes, SIZE, **operator.reductions[reduction], channel_axis=axis
    )
    assert output.shape == ((9, 5, *SIZE) if axis == 1 else (9, *SIZE, 7))
    assert (output.dtype, output.device.type) == (torch.bfloat16, "meta")
    output.sum().backward()
    assert (input.grad.shape, input.grad.dtype) == (input.shape, input.dtype)
    assert (boxes.grad.shape, boxes.grad.dtype) == (boxes.shape, boxes.dtype)


# ---- torch.compile -------------------------------------------------------------------------


@MATRIX
@pytest.mark.parametrize("form", FORMS)
def test_compiled(operator, reduction, form):
    """In one graph: the same bits, the same gradients."""
    boxes, more = in_form(form)

    def pool(input, boxes):
        return on_tensors(operator)(input, boxes, SIZE, **operator.reductions[reduction], **more)

    found = gradients(compiled(pool), features(), boxes)
    assert_equal(found, gradients(pool, features(), boxes))


def test_compiled_with_boxes_of_numpy():
    boxes = rows().numpy()

    def function(input):
        return roi_torch.roi_align(input, boxes, SIZE)

    assert_equal(compiled(function)(features()), function(features()))


def test_compiled_for_any_number_of_boxes():
    """And any size of map, of bins, and scale."""

    def pool(input, boxes, size, scale):
        return roi_torch.roi_align(input, boxes, size, scale, reduce="max", return_argmax=True)

    function = compiled(pool, dynamic=True)
    for count, crop, size, scale in ((1, 9, 2, 0.5), (2, 8, 3, 0.25), (5, 6, 4, 0.125)):
        arguments = features()[..., :crop], rows().repeat(count, 1), size, scale
        assert_equal(gradients(function, *arguments), gradients(pool, *arguments))


def test_compiled_errors():
    """A wrong box is found when it is there, a wrong option before."""
    function = compiled(lambda *arguments: roi_torch.roi_align(*arguments, SIZE))
    boxes = rows()
    function(features(), boxes)
    boxes[2, 0] = 7
    with pytest.raises(IndexError, match="batch index in boxes must be in"):
        function(features(), boxes)
    with pytest.raises(Exception, match="input must have shape"):
        function(features()[..., 0], boxes)


@pytest.mark.skipif(OLD, reason="this torch cannot compile torch.vmap")
def test_compiled_vmap():
    maps = torch.stack([features(), features() / 2])

    def pool(maps):
        return torch.vmap(lambda map: roi_torch.roi_align(map, rows(), SIZE))(maps)

    assert_equal(compiled(pool)(maps), pool(maps))


def loss(input):
    return roi_torch.roi_align(input, rows(), SIZE, reduce="max").square().sum()


def tangent(input):
    return torch.func.jvp(loss, (input,), (input.cos(),))[1]


def dual(input):
    with torch.autograd.forward_ad.dual_level():
        output = loss(torch.autograd.forward_ad.make_dual(input, input.cos()))
        return torch.autograd.forward_ad.unpack_dual(output).tangent


def gradient(input):
    return torch.func.grad(loss)(input)


def gradient_of_each(input):
    return torch.vmap(gradient)(input[None])


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (gradient, "torch.func cannot differentiate"),
        (gradient_of_each, "torch.func cannot differentiate"),
        (tangent, "forward-mode derivatives"),
        (dual, "forward-mode derivatives"),
    ],
)
def test_what_torch_cannot_compile(function, said):
    """Refused where it has to be in one graph, else it is eager: never without its derivative."""
    with pytest.raises(torch._dynamo.exc.Unsupported, match=None if OLD else said):
        compiled(function)(features())
    torch._dynamo.reset()
    assert_equal(compiled(function, fullgraph=False)(features()), function(features()))


def test_tangents_are_never_lost():
    """Neither where compiled code is called in forward mode, nor by an op or an exported graph."""
    expected, level = dual(features()), torch.autograd.forward_ad.dual_level
    function = compiled(loss, fullgraph=False)
    function(features())
    with level():
        output = function(torch.autograd.forward_ad.make_dual(features(), features().cos()))
        assert_equal(torch.autograd.forward_ad.unpack_dual(output).tangent, expected)
    exported = torch.export.export(roi_torch.RoIAlign(2, 0.5, 2), (features(), rows())).module()
    op, arguments = sample(REDUCTIONS[-1][0], "", {})
    for call in (lambda x: exported(x, rows()), lambda x: op(x, rows(), *arguments[2:])):
        with level(), pytest.raises(NotImplementedError, match="forward-mode derivatives"):
            call(torch.autograd.forward_ad.make_dual(features(), features()))
        with pytest.raises(NotImplementedError, match="forward-mode derivatives"):
            torch.func.jvp(call, (features(),), (features(),))


def test_graphs_of_gradients():
    """What `make_fx` traces are our ops."""
    make_fx = pytest.importorskip("torch.fx.experimental.proxy_tensor").make_fx

    def gradient(input, boxes):
        return gradients(roi_torch.prroi_pool, input, boxes, SIZE)[2]

    graph = make_fx(gradient)(features(), rows())
    names = {node.name for node in graph.graph.nodes}
    assert names >= {"prroi_pool", "prroi_pool_grad_input", "prroi_pool_grad_boxes"}
    assert_equal(graph(features(), rows()), gradient(features(), rows()))


# ---- torch.export --------------------------------------------------------------------------


MODULES = [
    roi_torch.RoIAlign(SIZE, 0.5, 2, aligned=True),
    roi_torch.RoIPool(SIZE, 0.5),
    roi_torch.RoIWarp(SIZE, 0.5, 2),
    roi_torch.PrRoIPool(SIZE, 0.5),
]


@pytest.mark.parametrize("strict", [False, True], ids=["non-strict", "strict"])
@pytest.mark.parametrize("module", MODULES, ids=lambda module: type(module).__name__)
def test_exported(module, strict):
    """For any number of boxes and any map; saved and loaded; with its gradients."""
    count, height = torch.export.Dim("count", min=1), torch.export.Dim("height", min=2)
    program = torch.export.export(
        module, (features(), rows()), dynamic_shapes=({2: height}, {0: count}), strict=strict
    )
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    again = torch.export.load(file).module()
    arguments = features()[:, :, :7], rows().repeat(3, 1)
    for exported in (program.module(), again):
        assert_equal(gradients(exported, *arguments), gradients(module, *arguments))


def test_exported_with_lists():
    module, (boxes, _) = MODULES[0], in_form("list")
    program = torch.export.export(module, (features(), boxes))
    assert_equal(program.module()(features(), boxes), module(features(), boxes))


# ---- autocast ------------------------------------------------------------------------------


def test_autocast():
    """As if it were not there: in the dtype that comes, whose gradients go back."""
    convolution = torch.nn.Conv2d(3, 4, 3, dtype=torch.float32)
    boxes = rows().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        map = convolution(features().float())
        output = roi_torch.roi_align(map, boxes, SIZE)
        assert map.dtype == output.dtype == torch.bfloat16
    assert_equal(output, roi_torch.roi_align(map, boxes, SIZE))
    map.retain_grad()
    output.backward(output.cos())
    expected = gradients(roi_torch.roi_align, map, boxes, SIZE, upstream=output.detach().cos())
    assert_equal((map.grad, boxes.grad), expected[2])
    assert convolution.weight.grad.dtype == torch.float32
    assert convolution.weight.grad.any()


def test_checkpoints():
    """What is computed again has the same gradient."""
    checkpoint = pytest.importorskip("torch.utils.checkpoint").checkpoint

    def pool(input, boxes):
        return roi_torch.roi_align(input, boxes, SIZE, reduce="max")

    def again(input, boxes):
        return checkpoint(pool, input, boxes, use_reentrant=False)

    expected = gradients(pool, features(), rows())
    assert_equal(gradients(again, features(), rows()), expected)
