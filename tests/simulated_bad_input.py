"""Rows of the table of bad input down to CUDA's kernels; see `simulated_calls`."""

import numpy as np

import simulated_crops  # noqa: F401 - it prepares the engine of crops
from bad_input import EVERY, TABLE, assert_near, upstream
from device_stand_in import machine, ndarray, plain
from simulated_calls import there


def rows(name):
    """All that a device does not refuse: the reference's results, zeros for boxes that are bad."""
    for operator in EVERY:
        if operator.name == name:
            for row in TABLE:
                if row.error is None or row.unchecked:
                    for back in (False, True):
                        if row.only(operator, back):
                            on_device(operator, operator.call() | {}, row, back)
    assert (machine.waits, machine.device) == (0, 0)


def on_device(operator, call, row, back):
    call |= row.change(operator, call)
    if back:
        call["grad_output"] = upstream(operator, call)
    given = {
        name: there(value) if isinstance(value, np.ndarray) else value
        for name, value in call.items()
    }
    if not back:
        found, wanted = [operator.function(**given)], [operator.expected(call)]
    else:
        del given["crop_size" if operator.crops else "output_size"]
        found = operator.backward(**given)
        gradient = call.pop("grad_output").astype(np.float64)
        wanted = operator.expected_gradients(gradient, call)
    for actual, expected in zip(found, wanted, strict=True):
        assert type(actual) is ndarray
        assert_near(plain(actual), expected)
