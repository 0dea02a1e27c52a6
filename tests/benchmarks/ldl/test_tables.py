"""Tables 1 to 7 and the numbers of the figures, of records and logits made by hand."""

from itertools import count
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax
from sklearn.metrics import top_k_accuracy_score

from benchmarks.ldl.figures import calibration_panels, similar_and_different
from benchmarks.ldl.tables import f1_table, measured, metrics_table, paper_tables, scaled
from benchmarks.published import published
from kls.study.report.comparisons import bold_note
from kls.study.report.tables import Bold
from kls.study.store import RunStore

PAPER = published("ldl")


class Study:
    """Records by hand, with logits of which a share is right at a confidence."""

    def __init__(self, out):
        self.store = RunStore(out)
        self.records = []
        self.ids = map(str, count())

    def add(self, dataset, model, configuration, accuracy, confidence, *, seed=0, teacher="", mixing="", classes=10):
        trial = SimpleNamespace(id=next(self.ids))
        labels = np.arange(100) % classes
        predicted = np.where(np.arange(100) < 100 * accuracy, labels, (labels + 1) % classes)
        probabilities = np.full((100, classes), (1 - confidence) / (classes - 1))
        probabilities[np.arange(100), predicted] = confidence
        (self.store.out / "trials" / trial.id).mkdir(parents=True)
        self.store.write_outputs(trial, "test", np.log(probabilities), labels)
        self.records.append(
            {
                **{"dataset": dataset, "model": model, "configuration": configuration, "seed": seed},
                **{
                    "teacher": teacher,
                    "mixing": mixing,
                    "trial": trial.id,
                    "evaluation": "test",
                    "epochs": 20,
                    "batch_size": 32,
                    "starts_anew": True,
                    "accuracy_train": 0.5,
                    "accuracy_last": 0.5,
                },
                **{
                    "parents": (),
                    "train_images": 500,
                    "evaluation_images": 100,
                    "classes": classes,
                    "image_size": "32",
                },
            }
        )

    @property
    def networks(self):
        return measured(self.records, self.store)


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path)


class TestMeasures:
    def test_by_hand(self, study):
        """90 of 100 right at a confidence of 0.75, the other classes at 0.25 / 9."""
        study.add("cifar10", "resnet20v1", "kd", 0.9, 0.75)
        (row,) = study.networks.to_dict("records")
        other = 0.25 / 9
        assert row["accuracy"] == 0.9
        assert row["ece"] == pytest.approx(0.15)
        assert row["nll"] == pytest.approx(-0.9 * np.log(0.75) - 0.1 * np.log(other))
        assert row["brier_top"] == pytest.approx(0.9 * 0.25**2 + 0.1 * 0.75**2)
        right, wrong = 0.25**2 + 9 * other**2, 0.75**2 + (1 - other) ** 2 + 8 * other**2
        assert row["brier"] == pytest.approx(0.9 * right + 0.1 * wrong)
        assert "accuracy_top5" not in row

    def test_ece_has_ten_bins(self, study):
        """Of fifteen bins the two confidences would share none, of ten they share (0.6, 0.7]."""
        study.add("cifar10", "resnet20v1", "kd", 1.0, 0.65)
        path = study.store.outputs_path("0", "test")
        with np.load(path) as file:
            logits, labels = file["logits"], file["labels"]
        logits[::2, :] = np.log(0.3 / 9)
        logits[np.arange(0, 100, 2), (labels[::2] + 1) % 10] = np.log(0.7 - 1e-6)
        study.store.write_outputs(SimpleNamespace(id="0"), "test", logits, labels)
        assert study.networks["ece"].item() == pytest.approx((0.65 + 0.7) / 2 - 0.5, abs=1e-5)

    def test_temperature_scaling_mends_the_vanilla_network_alone(self, study):
        study.add("cifar10", "resnet20v1", "vanilla", 0.9, 0.99)
        study.add("cifar10", "resnet20v1", "kd", 0.9, 0.99)
        networks = study.networks.set_index("configuration")
        assert list(networks.index) == ["vanilla", "temperature-scaling", "kd"]
        assert networks.loc["temperature-scaling", "ece"] < networks.loc["vanilla", "ece"] / 2
        assert networks.loc["temperature-scaling", "accuracy"] == networks.loc["vanilla", "accuracy"]

    def test_the_halves_are_judged_at_the_temperatures_that_are_told(self, study):
        study.add("cifar10", "resnet20v1", "vanilla", 0.9, 0.99)
        with np.load(study.store.outputs_path("0", "test")) as file:
            logits, labels = file["logits"], file["labels"]
        found, temperatures = scaled(labels, logits)
        spread = np.ptp(logits, axis=1) / np.ptp(found, axis=1)
        assert (spread.min(), spread.max()) == pytest.approx((min(temperatures), max(temperatures)), rel=1e-3)
        assert min(temperatures) > 1

    def test_top_five_where_there_are_many_classes(self, study):
        study.add("imagenet_resized", "resnet18", "vanilla", 0.5, 0.9, classes=20)
        logits = np.random.default_rng(0).normal(size=(100, 20))
        labels = np.arange(100) % 20
        study.store.write_outputs(SimpleNamespace(id="0"), "test", logits, labels)
        expected = top_k_accuracy_score(labels, log_softmax(logits.astype(np.float32), axis=1), k=5)
        assert study.networks["accuracy_top5"].tolist() == pytest.approx([expected] * 2)


class TestMeasuresTable:
    def test_published_numbers_stand_below_in_the_same_units(self, study):
        """Table 7, ResNet-18: 78.67 ± 0.14, 0.060, 0.086, 0.826 and a Brier score of the predicted class of 0.118."""
        study.add("cifar100_full", "resnet18", "off-ldl", 0.9, 0.75, teacher="resnet200", classes=100)
        table, numbers = metrics_table(study.networks, study.records, PAPER)
        assert table.rows[0][:4] == ("cifar100_full", "off-ldl (resnet200)", "1", "90.00")
        published = ("published", "3", "78.67 ± 0.14", "–", "6.0", "8.6", "0.826", "0.118", "–")
        assert table.rows[1] == ("resnet18", *published)
        assert numbers["ece_published"].item() == 0.060
        assert numbers["n"].item() == 1

    def test_seeds_are_averaged_and_what_is_better_than_vanilla_is_bold(self, study):
        for seed, accuracy in enumerate((0.79, 0.85, 0.91)):
            study.add("cifar10", "resnet20v1", "vanilla", accuracy, 0.95, seed=seed)
            study.add("cifar10", "resnet20v1", "ls", accuracy, 0.85, seed=seed)
        words = [("ls", "nll", "better"), ("ls", "accuracy", "cannot tell"), ("ls", "ece", "worse")]
        compared = pd.DataFrame(words, columns=["method", "metric", "word"])
        compared = compared.assign(dataset="cifar10", model="resnet20v1")
        table, _ = metrics_table(study.networks, study.records, PAPER, compared)
        rows = {row[1]: row for row in table.rows if row[1] != "published"}
        assert rows["vanilla"][2:4] == ("3", "85.00 ± 6.00")
        bold = [(name, index) for name, row in rows.items() for index, cell in enumerate(row) if isinstance(cell, Bold)]
        assert bold == [("ls", 6)]
        assert table.header[6] == "NLL"
        assert bold_note(compared, "vanilla") in table.caption
        assert table.caption.endswith("ECE is compared with 15 bins.")

    def test_data_that_the_paper_does_not_have(self, study):
        study.add("mine", "resnet20v1", "on-ldl", 0.9, 0.8, teacher="resnet32v1", mixing="ricap")
        table, numbers = metrics_table(study.networks, study.records, PAPER)
        assert [row[0] for row in table.rows] == ["mine", "resnet20v1"]
        assert not any(table.rows[1][1:])
        assert numbers["accuracy_published"].isna().all()
        assert "mine: 20 epochs (the paper: 240, long 350), 500 training and 100 evaluation images" in table.notes[0]


class TestPaperTables:
    def test_of_those_networks_that_are_there(self, study):
        study.add("cifar10", "resnet20v1", "vanilla", 0.9, 0.8)
        ((table, _),) = paper_tables(study.networks, study.records, PAPER)
        assert table.name == "table2"
        assert table.header == (
            *("method", "cifar10, resnet20v1", "cifar10, resnet56v1"),
            *("stl10, resnet20v1", "stl10, resnet56v1"),
        )
        assert table.rows[0] == ("vanilla", "90.00 / 10.00 (n=1)", "–", "–", "–")
        assert table.rows[1][:2] == ("published", "92.56 ± 0.10 / 3.3")
        assert [row[0] for row in table.rows[::2]] == list(dict.fromkeys(PAPER[PAPER["table"] == "2"]["method"]))

    def test_on_ldl_stands_where_its_mixing_is_named(self, study):
        study.add("cifar100_full", "resnet20v1", "on-ldl", 0.9, 0.8, mixing="ricap", classes=100)
        tables = {table.name: table for table, _ in paper_tables(study.networks, study.records, PAPER)}
        first = {row[0]: row for row in tables["table1"].rows}
        assert first["on-ldl-ricap"][1] == "90.00 / 10.00 (n=1)"
        assert first["on-ldl-cutmix"][1] == "–"
        assert "sskd (not built)" in {row[0] for row in tables["table3"].rows}

    def test_all_published_cells_are_there(self, study):
        study.add("cifar100_full", "resnet18", "vanilla", 0.9, 0.8, classes=100)
        for table, numbers in paper_tables(study.networks, study.records, PAPER):
            printed = PAPER[PAPER["table"] == table.name.removeprefix("table")]
            assert len(numbers) == len(printed)
            assert sorted(numbers["published"]) == pytest.approx(sorted(printed["value"]))

    def test_none_of_other_data(self, study):
        study.add("mine", "resnet20v1", "vanilla", 0.9, 0.8)
        assert paper_tables(study.networks, study.records, PAPER) == []


def test_f1_per_class_is_the_mean_over_seeds(study):
    for seed, accuracy in enumerate((1.0, 0.9)):
        study.add("mine", "resnet20v1", "kd", accuracy, 0.8, seed=seed)
    table, numbers = f1_table(study.records, study.store, {"mine": [f"class {k}" for k in range(10)]})
    assert table.header == ("dataset", "model", "class", "kd")
    assert len(numbers) == 20
    # of seed 1 the last of ten samples of each class is called the next: TP 9, FP 1, FN 1
    assert table.rows[3] == ("mine", "resnet20v1", "class 3", "95.00")


class TestFigures:
    def test_calibration_panels_are_means_in_percent(self, study):
        for seed, accuracy in enumerate((0.8, 0.9)):
            study.add("mine", "resnet20v1", "kd", accuracy, 0.95, seed=seed)
        panels = calibration_panels(study.networks)
        ((title, methods),) = panels.items()
        assert title == "mine (n=2)"
        assert methods["kd"]["resnet20v1"] == pytest.approx((85, 10))

    def test_similar_classes_are_those_taken_for_each_other(self):
        """Cats (1) and dogs (3) share their probability; ships (2) have least to do with either."""
        probabilities = np.full((4, 4), 0.05)
        probabilities[[0, 1, 2, 3], [0, 1, 2, 3]] = [0.85, 0.6, 0.94, 0.6]
        probabilities[1, 3] = probabilities[3, 1] = 0.3
        probabilities[2, [1, 3]] = probabilities[[1, 3], 2] = 0.01
        found = similar_and_different(np.log(probabilities), np.arange(4))
        assert (set(found[:2]), found[2]) == ({1, 3}, 2)
