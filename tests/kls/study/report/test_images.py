import base64
import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kls.calibration.samples import softmax
from kls.study.manifest import Manifest
from kls.study.report.group import Group
from kls.study.report.images import find_dataset, image_parts

from .helpers import LABELS


def pixels(picture):
    with Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2]))) as image:
        return np.asarray(image)


def test_pictures_are_those_of_the_chosen_network(group, stripes):
    wrong, unusual = image_parts(group)
    logits, _ = group.outputs(group.chosen)
    confidence, guesses = softmax(logits).max(axis=1), logits.argmax(axis=1)
    images = stripes.split("test")[0]
    lowest = np.argsort(confidence, kind="stable")[:12]
    mistakes = sorted(np.flatnonzero(guesses != LABELS), key=lambda index: -confidence[index])[:12]
    assert 0 < len(mistakes) == len(wrong.pictures)
    for part, expected in ((wrong, mistakes), (unusual, lowest)):
        for picture, index in zip(part.pictures, expected, strict=True):
            np.testing.assert_array_equal(pixels(picture), images[index, :, :, 0])
            names = (stripes.class_names[LABELS[index]], stripes.class_names[guesses[index]])
            assert picture.lines[:2] == (f"label: {names[0]}", f"prediction: {names[1]}")
            assert picture.lines[2].endswith(f": {confidence[index]:.3f}")


def test_images_of_other_labels_are_not_shown(group, store, stripes, monkeypatch):
    images, labels = stripes.split("test")
    monkeypatch.setattr(type(stripes), "split", lambda dataset, name: (images, np.roll(labels, 1)))
    (text,) = image_parts(group)
    assert text.text == "There are no images to show: those of the dataset are not those that were evaluated."


def test_features_are_no_images(group, store):
    (text,) = image_parts(Group(group.records, store, "", SimpleNamespace(are_images=False)))
    assert text.text == "There are no images to show: the samples are features."


class TestWhereTheDatasetIs:
    @pytest.fixture
    def record(self, group):
        return group.records[0]

    def manifest(self, path):
        return Manifest("study", {}, "", {"stripes": path and str(path)})

    def test_it_is_where_the_study_had_it(self, record, stripes):
        found, reason = find_dataset(record, self.manifest(stripes.path))
        assert (found.fingerprint, reason) == (stripes.fingerprint, "")

    def test_a_directory_that_is_given_comes_first(self, record, stripes, tmp_path):
        found, _ = find_dataset(record, self.manifest(tmp_path / "gone"), stripes.path.parent)
        assert found.path == stripes.path

    def test_without_a_manifest_it_is_looked_for_in_the_data_directory(self, record, stripes, monkeypatch):
        monkeypatch.setenv("KLS_DATA", str(stripes.path.parent))
        assert find_dataset(record)[0].path == stripes.path

    def test_arrays_are_not_kept(self, record):
        assert find_dataset(record, self.manifest(None)) == (None, "stripes was given as arrays, which are not kept.")

    def test_what_is_gone_or_other_images_is_said(self, record, stripes, tmp_path):
        gone, reason = find_dataset(record, self.manifest(tmp_path / "stripes-8"))
        assert gone is None
        assert reason == f"{tmp_path / 'stripes-8'} holds no dataset."
        other, reason = find_dataset({**record, "data": "0"}, self.manifest(stripes.path))
        assert other is None
        assert reason == f"{stripes.path} holds other images than those of this study."
