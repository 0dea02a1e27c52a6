from dataclasses import replace

import numpy as np
import pytest

import decathlon
from kls.study.command import describe
from kls.study.estimate import seconds_of
from kls.study.features import Backbone
from kls.study.heads import parted
from kls.study.methods import CrossEntropy, Distillation, OutlierExposure

from . import pretrained
from .pretrained import DATA

LARGER = np.random.default_rng(0).integers(0, 256, (9, 16, 12, 1), dtype=np.uint8)


@pytest.fixture
def seen(monkeypatch):
    """The numbers of images that backbones are given, a list."""
    counts, of = [], Backbone.of

    def counted(self, images):
        counts.append(len(images))
        return of(self, images)

    monkeypatch.setattr(Backbone, "of", counted)
    return counts


def features_of(made, source=None, split="train"):
    """Returns the features of a split as a study keeps them, and their path."""
    trainer = made.trainer
    dataset = trainer.training(trainer.plan.trials[0]).dataset
    features = replace(dataset, source=source or dataset.source)
    return features.split(split)[0], features.path(split)


def expected(images):
    """Returns what Keras makes of images behind the preprocessing of the study."""
    backbone, _ = parted(pretrained.flat((8, 8, 1), 3))
    mean = np.mean(DATA[0][0] / 255, axis=0)
    return backbone.predict((images / 255 - mean).astype(np.float32), verbose=0)


class TestValues:
    def test_they_are_those_of_the_backbone(self, study_of_heads):
        made = study_of_heads()
        for split, (images, _) in zip(("train", "validation"), DATA, strict=True):
            np.testing.assert_allclose(features_of(made, split=split)[0], expected(images), rtol=1e-4, atol=1e-5)

    def test_images_of_another_size_are_brought_to_that_of_training(self, study_of_heads):
        made = study_of_heads(ood={"larger": LARGER})
        (other,) = made.trainer.wanted_by(made.plan().trials[0]).ood.values()
        found, _ = other.split("test")
        np.testing.assert_allclose(found, expected(decathlon.conform(LARGER, (8, 8, 1))), rtol=1e-4, atol=1e-5)

    def test_features_of_a_users_own_go_through_the_backbone_as_they_are(self, study_of_heads):
        x = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32)
        made = study_of_heads(pretrained.of_vectors, ((x, np.arange(24) % 3), (x[:6], np.arange(6) % 3)))
        backbone, _ = parted(pretrained.of_vectors((4,), 3))
        np.testing.assert_allclose(features_of(made)[0], backbone.predict(x, verbose=0), rtol=1e-5, atol=1e-6)

    def test_of_mixed_precision_they_are_rounded_and_kept_apart(self, study_of_heads):
        exact, path = features_of(study_of_heads())
        rounded, other = features_of(study_of_heads(precision="mixed_bfloat16"))
        assert rounded.dtype == exact.dtype == np.float32
        np.testing.assert_allclose(rounded, exact, rtol=0.05, atol=0.05)
        assert path.name != other.name


class TestFiles:
    def test_they_are_computed_once_for_all_methods_and_seeds(self, seen, tmp_path, capsys, study_of_heads):
        study_of_heads(out=tmp_path, seeds=2, ood={"larger": LARGER}).run()
        assert sum(seen) == 48 + 21 + 9
        assert "features of arrays train: 48 images in " in capsys.readouterr().out
        study_of_heads(out=tmp_path, seeds=3).run()
        assert sum(seen) == 48 + 21 + 9
        assert "features of" not in capsys.readouterr().out

    def test_a_damaged_file_is_computed_anew_before_it_is_used(self, seen, tmp_path, study_of_heads):
        first = study_of_heads(out=tmp_path, seeds=[1])
        first.run()
        found, path = features_of(first)
        values = np.array(found)
        with open(path, "r+b") as file:
            file.seek(-4 * pretrained.FEATURES * 10, 2)
            file.write(b"\x41" * 100)
        del seen[:]
        again = study_of_heads(out=tmp_path, seeds=[0]).run()
        assert seen == [48]
        np.testing.assert_array_equal(features_of(first)[0], values)
        np.testing.assert_array_equal(again.logits(CrossEntropy())[0], study_of_heads().run().logits(CrossEntropy())[0])

    @pytest.mark.parametrize(
        "changes",
        [
            {"model": pretrained.without_dropout},
            {"normalisation": "scale"},
            {"data": (pretrained.images(48, seed=5), DATA[1])},
        ],
        ids=["model", "preprocessing", "data"],
    )
    def test_what_decides_the_values_names_the_file(self, changes, study_of_heads):
        (first, _), (second, _) = (
            made.trainer.missing_features(made.plan().trials)[0]
            for made in (study_of_heads(), study_of_heads(**changes))
        )
        assert first.path("train").name != second.path("train").name

    def test_methods_and_seeds_and_rates_do_not(self, study_of_heads):
        first, second = (
            study_of_heads(),
            study_of_heads(methods=[CrossEntropy()], seeds=[7], learning_rate=0.1, epochs=5),
        )
        assert [
            features.path(split).name for features, split in first.trainer.missing_features(first.plan().trials)
        ] == [features.path(split).name for features, split in second.trainer.missing_features(second.plan().trials)]

    def test_each_split_that_is_missing_is_named_once(self, study_of_heads):
        made = study_of_heads(ood={"larger": LARGER}, seeds=2)
        missing = made.trainer.missing_features(made.plan().trials)
        assert [(features.name, split) for features, split in missing] == [
            ("arrays", "train"), ("arrays", "validation"), ("larger", "test"),
        ]  # fmt: skip
        made.trainer.compute_features(made.plan().trials)
        assert made.trainer.missing_features(made.plan().trials) == []


class TestDryRuns:
    """They compute no features, train nothing and write nothing."""

    @pytest.mark.parametrize(
        ("fine_tune", "methods"),
        [
            ("head", [CrossEntropy(), Distillation(offline=True), OutlierExposure("stripes", outlier_batch_size=8)]),
            ("all", [CrossEntropy(), OutlierExposure("stripes", outlier_batch_size=8)]),
            (1, [Distillation()]),
        ],
        ids=["heads", "all", "students"],
    )
    def test_of_all_kinds_of_trials(self, fine_tune, methods, seen, data_dir, tmp_path, study_of_heads):
        made = study_of_heads(fine_tune=fine_tune, methods=methods, data_dir=data_dir, out=tmp_path / "out")
        text = describe(made)
        assert text.count("flat") >= text.count("seed=0") == len(made.plan().trials)
        assert "The features of the images take about " in text
        assert seen == [48, 48]  # a batch, and the same again, to take its time
        assert not (tmp_path / "out").exists()

    def test_the_time_of_features_is_that_of_all_missing_images(self, monkeypatch, study_of_heads):
        made = study_of_heads(ood={"larger": LARGER})
        clock = iter(range(0, 10_000, 2))
        monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
        assert seconds_of(made)[1] == pytest.approx(2 / 48 * (48 + 21 + 9))
        made.trainer.compute_features(made.plan().trials)
        assert seconds_of(made)[1] == 0
