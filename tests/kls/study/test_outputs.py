import csv
import json

import keras
import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

import decathlon
import kls
from decathlon.sources.npz import open_npz
from decathlon.store import conform
from kls.__main__ import main
from kls.calibration.samples import softmax
from kls.study import run as run_module
from kls.study.methods import CrossEntropy
from kls.study.outputs import Wanted, is_complete

from . import my_models


@pytest.fixture(scope="module")
def data(data_dir):
    """Beside `stripes`: `dots` of another size and in colour, and `blank`, whose labels no network of stripes knows."""
    rng = np.random.default_rng(1)
    for name, shape, classes in (("dots", (12, 12, 3), 2), ("blank", (8, 8, 1), 7)):
        arrays = {}
        for part, count in (("train", 14), ("test", 21)):
            arrays |= {
                f"x_{part}": rng.integers(0, 256, (count, *shape), dtype=np.uint8),
                f"y_{part}": np.arange(count) % classes,
            }
        np.savez(data_dir / f"{name}.npz", **arrays)
        decathlon.prepare(name, open_npz(data_dir / f"{name}.npz"), data_dir=data_dir)
    return data_dir


def study(data, out, *more):
    arguments = [
        "stripes",
        "--model",
        "resnet8v1",
        "--gamma",
        "1",
        "--epochs",
        "1",
        "--batch-size",
        "32",
        "--seeds",
        "1",
        *more,
    ]
    return main(["study", *arguments, "--data-dir", str(data), "--out", str(out)])


def results(out):
    with open(out / "results.csv") as file:
        return list(csv.DictReader(file))


def stored(out, name):
    (path,) = out.glob(f"trials/*/logits/{name}.npz")
    with np.load(path) as file:
        return dict(file)


def record(out):
    (path,) = out.glob("trials/*/record.json")
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def run_with_ood(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("ood")
    assert study(data, out, "--ood", "dots", "--features") == 0
    return out


class TestOneRun:
    def test_ood_logits_are_those_of_the_weights_on_conformed_images(self, run_with_ood, data):
        found = stored(run_with_ood, "dots")
        assert found["labels"].tolist() == [-1] * 21
        network = kls.models.build("resnet8v1", (8, 8, 1), 3, classifier_activation=None)
        inputs = keras.Input((8, 8, 1))
        mean = decathlon.open("stripes", data_dir=data).mean
        model = keras.Model(inputs, network.call(kls.layers.Pixels(np.zeros_like(mean))(inputs)))
        model.load_weights(next(run_with_ood.glob("trials/*/weights.weights.h5")))
        np.testing.assert_array_equal(model.layers[1].mean, mean)
        images, _ = decathlon.open("dots", data_dir=data).split("test")
        logits = network.predict(conform(images, (8, 8, 1)) / np.float32(255) - mean, verbose=0)
        np.testing.assert_allclose(found["logits"], logits, atol=1e-5)
        assert found["features"].dtype == np.float16
        kernel, bias = (v.numpy() for v in network.get_layer("classifier").trainable_variables)
        np.testing.assert_allclose(found["features"] @ kernel + bias, logits, atol=2e-2)

    def test_columns_equal_independent_packages_on_the_stored_logits(self, run_with_ood):
        (row,) = results(run_with_ood)
        found, other = stored(run_with_ood, "test"), stored(run_with_ood, "dots")
        p = softmax(found["logits"])
        assert float(row["nll"]) == pytest.approx(log_loss(found["labels"], p), abs=1e-9)
        assert float(row["brier"]) == pytest.approx(((p - np.eye(3)[found["labels"]]) ** 2).sum(axis=1).mean())
        assert float(row["ece"]) == pytest.approx(kls.calibration.expected_calibration_error(found["labels"], p))
        scores = np.concatenate([p.max(axis=1), softmax(other["logits"]).max(axis=1)])
        assert float(row["auroc_dots"]) == pytest.approx(roc_auc_score([1] * 41 + [0] * 21, scores))
        assert (record(run_with_ood)["ece_bins"], record(run_with_ood)["ece_convention"]) == (15, "guo")

    def test_the_table_shows_them(self, run_with_ood):
        (row,) = results(run_with_ood)
        table = (run_with_ood / "tables" / "calibration.md").read_text()
        for text in ("AUROC % dots", f"{100 * float(row['ece']):.2f}", f"{float(row['nll']):.3f}", "15 bins", "guo"):
            assert text in table


def test_more_sets_are_evaluated_from_the_weights_without_training(run_with_ood, data, monkeypatch, capsys):
    before = results(run_with_ood)[0]
    weights = next(run_with_ood.glob("trials/*/weights.weights.h5")).read_bytes()

    def never(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(run_module, "train", never)
    assert study(data, run_with_ood, "--ood", "blank") == 0
    assert "stripes resnet8v1 gamma=1 seed=0  evaluating from its weights" in capsys.readouterr().out
    (row,) = results(run_with_ood)
    assert list(row)[-2:] == ["auroc_blank", "auroc_dots"]
    assert row["auroc_dots"] == before["auroc_dots"]
    assert "features" in stored(run_with_ood, "blank")
    assert next(run_with_ood.glob("trials/*/weights.weights.h5")).read_bytes() == weights
    assert study(data, run_with_ood, "--ood", "blank", "dots") == 0
    assert "evaluating" not in capsys.readouterr().out


def test_validation_images_are_stored_where_others_are_judged(tmp_path):
    rng = np.random.default_rng(0)
    splits = {
        name: (rng.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8), np.arange(count) % 3)
        for name, count in (("train", 30), ("validation", 15), ("test", 12))
    }
    given = {"seeds": 1, "epochs": 1, "batch_size": 16, "out": tmp_path}
    found = kls.Study(my_models.with_rescaling, splits, [CrossEntropy()], **given).run()
    assert found.records[0]["evaluation"] == "test"
    logits, labels = found.logits(CrossEntropy(), split="validation")
    np.testing.assert_array_equal(labels, splits["validation"][1])
    predicted = found.model(CrossEntropy()).predict(splits["validation"][0], verbose=0)
    np.testing.assert_allclose(predicted, logits, atol=1e-5)
    assert is_complete(found.records[0], Wanted(splits=("validation",)))
    sha256 = {name: value for name, value in found.records[0]["sha256"].items() if "validation" not in name}
    assert not is_complete({**found.records[0], "sha256": sha256}, Wanted(splits=("validation",)))


def test_other_data_under_the_same_name_are_evaluated_anew(stripes):
    kept = {"evaluation": "test", "ood": {"stripes": stripes.fingerprint}, "features": ["test"], "scores": {}}
    assert is_complete(kept, Wanted({"stripes": stripes}))
    assert not is_complete({**kept, "ood": {"stripes": "another"}}, Wanted({"stripes": stripes}))
    assert not is_complete(kept, Wanted({"stripes": stripes}, features=True))


def test_only_scores_that_need_the_network_are_stored(stripes):
    assert Wanted(scores=("msp", "knn", "energy", "odin")).scores == ("knn", "odin")
    kept = {"evaluation": "test", "ood": {"stripes": stripes.fingerprint}, "features": [], "scores": {}}
    wanted = Wanted({"stripes": stripes}, scores=("msp", "knn"))
    assert not is_complete(kept, wanted)
    assert not is_complete({**kept, "scores": {"knn": ["test"]}}, wanted)
    assert is_complete({**kept, "scores": {"knn": ["stripes", "test"]}}, wanted)


def test_a_set_that_is_not_prepared_is_named_with_its_command(data_dir, tmp_path, capsys):
    assert study(data_dir, tmp_path / "out", "--ood", "fashion_mnist") == 2
    assert "python -m decathlon prepare fashion_mnist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
