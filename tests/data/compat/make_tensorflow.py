"""Write what TensorFlow makes of matterport's PyramidROIAlign, beside this file.

The layer as semantics.md has it (6.3, 7), of TensorFlow's operators: each box goes to one of four
maps by the size of its area in the image, and is cropped there.

`python tests/data/compat/make_tensorflow.py`, with tensorflow-cpu 2.21.0.
"""

from pathlib import Path

import numpy as np


def main():
    import tensorflow as tf

    rng = np.random.default_rng(7)
    image_height, image_width = 1024, 1280
    maps = [rng.normal(size=(2, 64 >> i, 80 >> i, 2)).astype(np.float32) for i in range(1, 5)]

    # From 8 to 1200 pixels a side, some beyond the image, one of it all, last rows of zeros.
    sides = np.exp2(rng.uniform(3, 10.2, (2, 40, 2))) / [image_height, image_width]
    starts = rng.uniform(-0.05, 0.9, (2, 40, 2))
    boxes = np.concatenate([starts, starts + sides], -1)
    boxes[0, 0], boxes[:, 32:] = [0, 0, 1, 1], 0
    boxes = boxes.astype(np.float32)
    image_meta = np.zeros((2, 12), np.float32)
    image_meta[:, 4:7] = image_height, image_width, 3

    flat = boxes.reshape(-1, 4)
    area = (flat[:, 2] - flat[:, 0]) * (flat[:, 3] - flat[:, 1])
    canonical = 224 / tf.sqrt(float(image_height * image_width))
    octaves = tf.math.log(tf.sqrt(area) / canonical) / tf.math.log(2.0)
    # Rows of zeros are infinitely far down, which is no int.
    levels = 4 + tf.cast(tf.round(tf.clip_by_value(octaves, -9.0, 9.0)), tf.int32)
    levels = np.clip(levels.numpy(), 2, 5)
    expected = np.zeros((80, 7, 5, 2), np.float32)
    for level, features in enumerate(maps, 2):
        (here,) = np.nonzero(levels == level)
        crops = tf.image.crop_and_resize(features, flat[here], here // 40, [7, 5])
        expected[here] = crops.numpy()
        print(f"level {level}: {len(here)} boxes")

    np.savez_compressed(
        Path(__file__).with_name("tensorflow_pyramid_roi_align.npz"),
        peer=f"tensorflow {tf.__version__}",
        boxes=boxes,
        image_meta=image_meta,
        **{f"features{level}": features for level, features in enumerate(maps, 2)},
        pool_shape=np.array([7, 5]),
        levels=levels.reshape(2, 40),
        expected=expected.reshape(2, 40, 7, 5, 2),
    )


if __name__ == "__main__":
    main()
