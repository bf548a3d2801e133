"""The operators in torch's dispatcher: traceable, batched, differentiable as often as it goes.

An op is registered with all that `torch.library` knows: a fake implementation, autograd and vmap.
That autograd serves compiled and exported graphs.  It fails under `torch.func` and loses the
tangents of forward mode, so that eager calls go through a `torch.autograd.Function` of the op.
"""

import importlib
import inspect
from functools import partial
from typing import Any

import torch
from torch.autograd import forward_ad

from ._torch_forms import ARGUMENTS, FORMS, NAMING, SIZES, Kind, computed, fake, without

OPERATORS = ("roi_pool", "roi_align", "roi_warp", "crop_pool", "prroi_pool")

SCHEMA_TYPES = {bool: "bool", int: "int[2]", str: "str"}
"""Types of the operators' own options in a schema, by the type of their defaults."""

NO_SECOND_DERIVATIVE = (
    "the second derivative of a pooled result with respect to its boxes is not implemented: "
    "detach() the boxes, or name the inputs whose gradients are wanted"
)
NO_FORWARD_MODE = (
    "forward-mode derivatives of roi_numba's operators must be taken outside torch.compile and "
    "torch.export, through the functions of roi_numba.torch"
)
NO_TRANSFORMS = (
    "torch.func cannot differentiate roi_numba's operators inside torch.compile(fullgraph=True) "
    "or torch.export"
)


class Op:
    """One op of one operator, to be called wherever torch is: eager, transformed or traced."""

    def __init__(self, operator: str, kind: Kind) -> None:
        # By its full name: as an attribute of the package it is the function.
        self.module = importlib.import_module(f".{operator}", __package__)
        self.operator, self.kind = operator, kind
        name = f"{operator}{kind.suffix}"
        op = torch.library.custom_op(
            f"roi_numba::{name}", self.run, mutates_args=(), schema=self.schema()
        )
        op.register_fake(lambda *args: fake(kind, kind.told_apart(args)))
        op.register_autograd(self.traced_backward, setup_context=self.setup_context)
        self.packet = getattr(torch.ops.roi_numba, name)
        op.register_vmap(partial(self.vmap, self.packet))
        rules: dict[str, Any] = {
            "forward": self.forward,
            "setup_context": self.setup_context,
            "backward": self.backward,
            "jvp": self.jvp,
            "vmap": partial(self.vmap, self),
        }
        statics = {name: staticmethod(rule) for name, rule in rules.items()}
        self.function: Any = type(name, (torch.autograd.Function,), statics)

    def __call__(self, *args: Any) -> Any:
        if not torch.compiler.is_compiling():
            return self.function.apply(*args) if differentiated(args) else self.packet(*args)
        if forward_ad._current_level >= 0:
            raise NotImplementedError(NO_FORWARD_MODE)
        if torch._C._are_functorch_transforms_active() and not any(
            [torch._C._functorch.is_batchedtensor(t) for t in args if isinstance(t, torch.Tensor)]
        ):
            raise NotImplementedError(NO_TRANSFORMS)
        return self.packet(*args)

    def schema(self) -> str:
        """The op's signature in torch's notation."""
        arguments = [f"Tensor {ARGUMENTS[name]}" for name in self.kind.given]
        arguments += ["Tensor boxes", "Tensor? batch_indices", "Tensor? argmax"]
        if self.kind.result in SIZES:
            count = "[2]" if self.kind.result == "bins" else "[]"
            arguments.append(f"SymInt{count} {SIZES[self.kind.result]}")
        arguments.append("float spatial_scale")
        for name, parameter in inspect.signature(self.module.options).parameters.items():
            arguments.append(f"{SCHEMA_TYPES[type(parameter.default)]} {name}")
        arguments += ["str reduce", "int channel_axis", "bool? check_boxes"]
        returns = "(Tensor, Tensor)" if self.kind is NAMING else "Tensor"
        return f"({', '.join(arguments)}) -> {returns}"

    def run(self, *args: Any) -> Any:
        """Compute it on real tensors."""
        # Within an autograd.Function forward mode is off; here nobody looks after tangents.
        if forward_ad._current_level >= 0 and torch._C._is_fwd_grad_enabled():
            raise NotImplementedError(NO_FORWARD_MODE)
        # Memory of a tensor that requires grad is not lent, and nothing is recorded here anyway.
        plain = (arg.detach() if isinstance(arg, torch.Tensor) else arg for arg in args)
        return computed(self.kind, self.module, self.kind.told_apart(plain))

    def forward(self, *args: Any) -> Any:
        """Call the op itself."""
        return self.packet(*args)

    # ---- derivatives -------------------------------------------------------------------------

    def setup_context(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep what derivatives will need and no more: that of a mean to the map needs no map."""
        arguments = self.kind.told_apart(inputs)
        given, boxes, batch_indices, argmax, size, settings = arguments
        if self.kind is NAMING:
            argmax = output[1]
            ctx.mark_non_differentiable(argmax)
        ctx.set_materialize_grads(False)
        ctx.settings = settings
        ctx.winners_unknown = argmax is None and arguments.reduce != "mean"
        ctx.sizes = {"map": size, "bins": size}
        if "map" in given:
            ctx.sizes["map"] = tuple(given["map"].shape)
        if "bins" in given:
            shape = given["bins"].shape
            ctx.sizes["bins"] = tuple(shape[2:] if arguments.channel_axis == 1 else shape[1:3])
        # Each argument is needed for the derivatives to all others.
        needed = list(ctx.needs_input_grad[: len(given) + 1])
        needed[-1] = (needed[-1] and not self.kind.moving) or ctx.winners_unknown
        kept = [
            tensor if any(needed[:i] + needed[i + 1 :]) else None
            for i, tensor in enumerate(given.values())
        ]
        fixed = boxes, batch_indices, argmax
        ctx.save_for_backward(*kept, *fixed)
        ctx.save_for_forward(*given.values(), *fixed)

    def saved(self, ctx: Any) -> tuple[dict[str, Any], tuple[Any, ...]]:
        """What was kept: the arguments of the form; boxes, batch indices and winners."""
        tensors = ctx.saved_tensors
        given = dict(zip(self.kind.given, tensors, strict=False))
        boxes, batch_indices, argmax = tensors[len(given) :]
        if ctx.winners_unknown:
            name = OPS[self.operator, NAMING.suffix]
            arguments = given["map"], boxes, batch_indices, None, ctx.sizes["bins"], *ctx.settings
            argmax = name(*arguments)[1]
        return given, (boxes, batch_indices, argmax)

    def other(self, result: str, form: dict[str, Any], fixed: tuple[Any, ...], ctx: Any) -> Any:
        """The form given all its arguments but `result`."""
        kind = without(result, form)
        boxes, *rest = fixed
        if kind.moving and not torch.compiler.is_compiling() and differentiated((boxes,)):
            boxes = Held.apply(boxes)
        sizes = (ctx.sizes[result],) if result in SIZES else ()
        op = OPS[self.operator, kind.suffix]
        return op(*(form[name] for name in kind.given), boxes, *rest, *sizes, *ctx.settings)

    def backward(self, ctx: Any, grad: Any, *_: Any) -> tuple[Any, ...]:
        """Gradients to all arguments from that of the result."""
        needed = ctx.needs_input_grad
        gradients: list[Any] = [None] * len(needed)
        if grad is None:
            return tuple(gradients)
        given, fixed = self.saved(ctx)
        form = {**given, self.kind.result: grad}
        for i, name in enumerate(given):
            if needed[i]:
                gradients[i] = self.other(name, form, fixed, ctx)
        if needed[len(given)] and not self.kind.moving:
            gradients[len(given)] = self.other("motion", {**form, "motion": None}, fixed, ctx)
        return tuple(gradients)

    def traced_backward(self, ctx: Any, *grads: Any) -> tuple[Any, ...]:
        """As `backward`, where nobody holds the boxes."""
        if self.kind.moving and ctx.needs_input_grad[len(self.kind.given)]:
            raise NotImplementedError(NO_SECOND_DERIVATIVE)
        return self.backward(ctx, *grads)

    def jvp(self, ctx: Any, *tangents: Any) -> Any:
        """How the result moves as the arguments do."""
        given, fixed = self.saved(ctx)
        names = (*given,) if self.kind.moving else (*given, "motion")
        total = None
        for name, tangent in zip(names, tangents, strict=False):
            if tangent is not None:
                part = self.other(self.kind.result, {**given, name: tangent}, fixed, ctx)
                total = part if total is None else total + part
        return (total, None) if self.kind is NAMING else total

    # ---- vmap --------------------------------------------------------------------------------

    def vmap(self, call: Any, info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        """Fold the new axis into the boxes, and into the images if there are several maps."""
        n = info.batch_size

        def all_boxes(tensor: Any, dim: Any) -> Any:
            if tensor is None:
                return None
            tensor = tensor.expand(n, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            return tensor.flatten(0, 1)

        given, boxes, batch_indices, argmax, size, settings = self.kind.told_apart(args)
        dims = self.kind.told_apart(in_dims)
        boxes = all_boxes(boxes, dims.boxes)
        count = boxes.shape[0] // n
        numbered = batch_indices is None
        if numbered:
            batch_indices, boxes = boxes[:, 0], boxes[:, 1:]
        else:
            batch_indices = all_boxes(batch_indices, dims.batch_indices)
        images = None
        for name, tensor in given.items():
            dim = dims.given[name]
            if name != "map":
                given[name] = all_boxes(tensor, dim)
            elif dim is not None:
                given[name] = tensor.movedim(dim, 0)
                images = given[name].shape[1]
                given[name] = given[name].flatten(0, 1)
        if "motion" in given:
            given["motion"] = given["motion"][:, -4:]
        if self.kind.result == "map":
            images, *rest = size
            size = (n * images, *rest)
            count = images
        if images is not None:
            batch_indices = moved_on(batch_indices, images, n)
        sizes = (size,) if self.kind.result in SIZES else ()
        argmax = all_boxes(argmax, dims.argmax)
        output = call(*given.values(), boxes, batch_indices, argmax, *sizes, *settings)
        if self.kind is NAMING:
            return tuple(part.unflatten(0, (n, count)) for part in output), (0, 0)
        if self.kind.result == "motion" and numbered:
            output = torch.nn.functional.pad(output, (1, 0))
        return output.unflatten(0, (n, count)), 0


def differentiated(args: tuple[Any, ...]) -> bool:
    """Whether anybody may ask for a derivative of what is computed from `args`."""
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return True
    return torch.is_grad_enabled() and any(
        [arg.requires_grad for arg in args if isinstance(arg, torch.Tensor)]
    )


def moved_on(batch_indices: Any, images: int, n: int) -> Any:
    """Batch indices of `n` calls of `images` images each as those of one; bad ones stay bad."""
    dtype = torch.float64 if batch_indices.is_floating_point() else torch.int64
    batch_indices = batch_indices.detach().to(dtype).unflatten(0, (n, -1))
    calls = torch.arange(n, dtype=dtype, device=batch_indices.device)[:, None]
    calls = torch.where(batch_indices < images, calls, n - 1)
    calls = torch.where(batch_indices < 0, 0, calls)
    return (batch_indices + calls * images).flatten()


class Held(torch.autograd.Function):  # type: ignore[misc]
    """The boxes themselves, and an error where their second derivative is asked for.

    An op is told which of its arguments require grad, not whether anybody wants it; this is reached
    only if somebody does.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(boxes: Any) -> Any:
        """Nothing happens on the way there."""
        return boxes.view_as(boxes)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """There is no way back."""
        raise NotImplementedError(NO_SECOND_DERIVATIVE)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """Nor is there a way on."""
        raise NotImplementedError(NO_SECOND_DERIVATIVE)


OPS: dict[tuple[str, str], Op] = {}
for _operator in OPERATORS:
    for _kind in (*FORMS, NAMING):
        OPS[_operator, _kind.suffix] = Op(_operator, _kind)
