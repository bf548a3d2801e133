"""Write ONNX's own tests of RoiAlign, inputs and outputs, beside this file.

`python tests/data/compat/make_onnx.py`, with onnx 1.23.2.
"""

import importlib
from pathlib import Path

import numpy as np


def main():
    import onnx
    from onnx.backend.test.case import node

    # The wheel has the tests as code, which puts them on a list when it is imported.
    importlib.import_module("onnx.backend.test.case.node.roialign")
    for case in node._NodeTestCases:
        (operator,) = case.model.graph.node
        attributes = {
            each.name: onnx.helper.get_attribute_value(each) for each in operator.attribute
        }
        ((inputs, (expected,)),) = case.data_sets
        np.savez_compressed(
            Path(__file__).with_name(f"onnx_{case.name}.npz"),
            peer=f"onnx {onnx.__version__}",
            opset=case.model.opset_import[0].version,
            **{key: v.decode() if isinstance(v, bytes) else v for key, v in attributes.items()},
            **dict(zip(operator.input, inputs, strict=True)),
            expected=expected,
        )


if __name__ == "__main__":
    main()
