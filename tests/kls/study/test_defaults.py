import keras
import numpy as np
import pytest
from PIL import Image

import kls
from kls.__main__ import main
from kls.study import defaults
from kls.study import study as study_module
from kls.study.defaults import batch_size_of, epochs_of, learning_rate_of, pretrained_model, small_model
from kls.study.methods import CrossEntropy, LabelSmoothing

from . import my_models, pretrained


class TestNetworks:
    def test_the_pretrained_one_is_taken_where_its_weights_are(self, monkeypatch):
        asked = []
        monkeypatch.setattr(defaults, "cached", lambda name: asked.append(name) or len(asked) == 1)
        assert (pretrained_model(), pretrained_model()) == ("keras.applications.EfficientNetV2B0", None)
        assert asked == ["keras.applications.EfficientNetV2B0"] * 2

    @pytest.mark.parametrize(("images", "name"), [(9, "resnet8v1"), (9_999, "resnet8v1"), (10_000, "resnet20v1")])
    def test_a_small_one_fits_the_number_of_images(self, images, name):
        model, plain = small_model(images)((32, 32, 3), 7), kls.models.build(name, (32, 32, 3), 7)
        assert model.count_params() == plain.count_params()

    @pytest.mark.parametrize(
        ("shape", "seen"),
        [
            ((8, 8, 1), (8, 8, 1)),
            ((32, 32, 3), (32, 32, 3)),
            ((64, 64, 3), (32, 32, 3)),
            ((40, 60, 3), (32, 48, 3)),
            ((100, 20, 3), (100, 20, 3)),
        ],
    )
    def test_a_small_one_works_at_32_pixels_or_fewer(self, shape, seen):
        model = small_model(9)(shape, 4)
        first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
        assert first.input.shape[1:] == seen
        assert model(np.zeros((2, *shape), np.float32)).shape == (2, 4)

    def test_shrinking_takes_means_of_what_it_drops(self):
        resizing = next(layer for layer in small_model(9)((64, 64, 1), 3).layers if layer.name.startswith("resizing"))
        stripes = np.zeros((1, 64, 64, 1), np.float32)
        stripes[:, ::2] = 200
        inner = np.asarray(resizing(stripes))[0, 4:-4, 4:-4]
        np.testing.assert_allclose(inner, 100, atol=15)


class TestNumbers:
    @pytest.mark.parametrize(
        ("images", "batch_size", "epochs"),
        [(3, 3, 100), (64, 64, 100), (200, 64, 67), (640, 64, 20), (50_000, 64, 20)],
    )
    def test_few_images_are_seen_in_200_steps_or_100_epochs(self, images, batch_size, epochs):
        assert batch_size_of(images) == batch_size
        assert epochs_of(images, batch_size) == epochs
        assert epochs * (images // batch_size) >= 200 or epochs == 100

    def test_epochs_follow_the_size_of_a_batch_that_is_given(self):
        assert (epochs_of(100, 10), epochs_of(100, 200)) == (20, 100)

    @pytest.mark.parametrize(("fine_tune", "rate"), [(None, 1e-3), ("head", 1e-3), ("all", 1e-4), (3, 1e-4)])
    def test_a_pretrained_backbone_has_a_lower_rate(self, fine_tune, rate):
        assert learning_rate_of(fine_tune) == pytest.approx(rate)

    def test_a_study_takes_them(self, tmp_path):
        study = kls.Study(pretrained.flat, pretrained.DATA, fine_tune="all", out=tmp_path)
        trials = [trial for trial in study.plan().trials if trial.head]
        assert len(trials) == 4 * 3
        assert [trial.method for trial in trials[:4]] == [CrossEntropy(), *map(LabelSmoothing, (0.95, 0.9, 0.8))]
        assert {(trial.epochs, trial.batch_size, trial.learning_rate) for trial in trials} == {(100, 48, 1e-4)}


class TestCommand:
    @pytest.fixture
    def folder(self, tmp_path):
        rng = np.random.default_rng(0)
        for part, count in (("train", 3), ("val", 2)):
            for label in range(3):
                directory = tmp_path / "images" / part / f"class{label}"
                directory.mkdir(parents=True)
                for index in range(count):
                    pixels = (rng.integers(0, 90, (12, 16, 3)) + 80 * label).astype(np.uint8)
                    Image.fromarray(pixels).save(directory / f"{index}.png")
        return tmp_path / "images"

    def test_with_nothing_but_data_says_all_before_it_trains(self, folder, tmp_path, monkeypatch, capsys, with_reports):
        monkeypatch.setattr(defaults, "cached", lambda name: False)
        monkeypatch.setattr(study_module, "small_model", lambda images: my_models.sequential)
        monkeypatch.setattr(study_module, "epochs_of", lambda images, batch_size: 2)
        monkeypatch.chdir(tmp_path)
        assert main(["study", str(folder), "--data-dir", str(tmp_path / "data")]) == 0
        out = " ".join(capsys.readouterr().out.split())
        told = [
            "9 train, 6 validation images of 3 classes",
            "Network: sequential, a small one for 9 training images, since there are no pretrained weights of keras.",
            "Plan: 4 methods (gamma=1, gamma=0.95, gamma=0.9, gamma=0.8), 3 seeds each: 12 trainings of 2 epochs. "
            "That takes about ",
            "[1/12] ",
            "[12/12] ",
            "Should you smooth the labels? ",
            "Report: runs/study/report.html",
        ]
        places = [out.index(text) for text in told]
        assert places == sorted(places)
        assert (tmp_path / "runs" / "study" / "verdict.txt").is_file()

    def test_fine_tune_and_its_number_are_taken(self, folder, tmp_path, capsys):
        model = f"{pretrained.__file__}:flat"
        for value, trials in (("head", 1), ("all", 2), ("1", 2)):
            command = ["study", str(folder), "--model", model, "--fine-tune", value, "--methods", "cross_entropy"]
            command += ["--seeds", "1", "--data-dir", str(tmp_path / "data"), "--out", str(tmp_path), "--dry-run"]
            assert main(command) == 0
            assert capsys.readouterr().out.count("flat gamma=1 seed=0") == trials
        assert main([*command, "--fine-tune", "top"]) == 2
        assert "error: `fine_tune` must be 'head', 'all' or the number of topmost" in capsys.readouterr().err
