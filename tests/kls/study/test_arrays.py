import numpy as np
import pytest

import decathlon
from kls.study.arrays import arrays_of
from kls.study.data import as_dataset
from kls.study.plan import PlanError


class TestArrays:
    @pytest.fixture
    def digits(self):
        return tuple(map(np.asarray, decathlon.open("digits").split("train")))

    def test_a_fifth_of_each_class_is_held_out(self, digits, capsys):
        dataset = as_dataset(digits)
        assert dataset.evaluation == "validation"
        assert sum(dataset.counts.values()) == len(digits[1])
        whole, held = np.bincount(digits[1]), np.bincount(dataset.split("validation")[1])
        assert held.tolist() == [round(0.2 * count) for count in whole]
        images = [image.tobytes() for split in dataset.counts for image in dataset.split(split)[0]]
        assert sorted(images) == sorted(image.tobytes() for image in digits[0])
        assert capsys.readouterr().out.startswith("A fifth of each class is held out for evaluation: 28")

    def test_two_pairs_are_training_and_validation(self, digits):
        dataset = as_dataset((digits, (digits[0][:50], digits[1][:50])))
        assert dataset.counts == {"train": len(digits[1]), "validation": 50}
        assert (dataset.size, dataset.image_shape, dataset.classes) == ("8", (8, 8, 1), 10)

    def test_a_mapping_with_a_test_split_is_evaluated_on_it(self, digits):
        x, y = digits
        parts = {"train": (x[100:], y[100:]), "validation": (x[:50], y[:50]), "test": (x[50:100], y[50:100])}
        assert as_dataset(parts).evaluation == "test"

    def test_the_mean_is_that_of_the_training_images(self, digits):
        dataset = as_dataset((digits, digits))
        np.testing.assert_allclose(dataset.mean, digits[0].mean(axis=0) / 255, atol=1e-7)

    @pytest.mark.parametrize("change", ["image", "label", "dtype", "split"])
    def test_other_contents_have_another_fingerprint(self, digits, change):
        x, y = digits
        other_x, other_y = x.copy(), y.copy()
        splits = {"train": (other_x, other_y), "test" if change == "split" else "validation": (x, y)}
        if change == "image":
            other_x[0, 0, 0, 0] ^= 1
        if change == "label":
            other_y[0] = (other_y[0] + 1) % 10
        if change == "dtype":
            splits = {
                name: (values.reshape(len(values), -1) / 1.0, labels) for name, (values, labels) in splits.items()
            }
        assert arrays_of(splits).fingerprint != arrays_of({"train": (x, y), "validation": (x, y)}).fingerprint
        assert arrays_of(splits).fingerprint == arrays_of(splits).fingerprint

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (5, r"`data` must be a prepared name, a folder, .* Received: data=5"),
            ("nowhere/at/all", r"`data` must be the name of a prepared dataset, or a folder. Received: 'nowhere"),
            ({"test": (np.zeros((2, 3)), [0, 1])}, r"`data` must map train.* Received: test"),
            (
                (np.zeros((4, 8, 8, 1), np.int8), [0, 1, 0, 1]),
                r"uint8 images or float features. Received: int8 in train",
            ),
            ((np.zeros((4, 8, 8), np.uint8), [0, 1, 0, 1]), r"shape \(N, H, W, C\).* Received: shape \(4, 8, 8\)"),
            ((np.zeros((4, 8, 8, 1)), [0, 1, 0, 1]), r"uint8 images, with pixels in 0..255. Received: float64 images"),
            ((np.full((4, 3), np.nan), [0, 1, 0, 1]), r"`data` must hold finite numbers. Received: others in train"),
            ((np.zeros((4, 3)), [0, 1, 0]), r"class indices of shape \(4,\). Received: int64 of shape \(3,\)"),
            ((np.zeros((4, 3)), [0.0, 1.0, 0.0, 1.0]), r"class indices .* Received: float64"),
            ((np.zeros((4, 3)), [0, 2, 0, 2]), r"training samples of each class. Received: none of \[1\]"),
            (
                ((np.zeros((4, 3)), [0, 1, 0, 1]), (np.zeros((4, 2)), [0, 1, 0, 1])),
                r"validation samples of shape \(3,\)",
            ),
        ],
    )
    def test_what_is_no_data_is_refused(self, data, message):
        with pytest.raises(PlanError, match=message):
            as_dataset(data)
