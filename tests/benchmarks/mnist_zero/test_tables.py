"""The numbers of a few images, counted by hand, and how they stand in the tables."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.mnist_zero.tables import base_and_class, detectors_table, differences_table, measured, zero_table
from benchmarks.published import published
from kls.study.methods import CrossEntropy, Denoising
from kls.study.trial import Trial

# Maximum softmax of each image. 0.8 keeps 2 of 3 validation images and refuses both proxy OOD images (5/6); 0.7 keeps
# all and refuses one (3/4). So the threshold is 0.8.
VALIDATION, PROXIES = (0.9, 0.8, 0.7), (0.5, 0.75)
# Of the ID test images the first and third are classified rightly; 0.8 keeps the first two.
ID, RIGHT = (0.95, 0.85, 0.6, 0.5), (True, False, True, False)
# Of the held-out images 0.8 keeps the first.
OOD = (0.9, 0.7, 0.6, 0.55, 0.4)
# The least error among the proxy OOD images is 0.2: of the ID images it passes also the third, of the held-out
# images the second, whose error is below it, but not the third, whose error is equal.
ERRORS = {
    "id_validation": (0.1, 0.05, 0.15),
    "proxy_ood": (0.3, 0.2),
    "id_test": (0.1, 0.5, 0.1, 0.2),
    "held_out": (0.5, 0.15, 0.2, 0.3, 0.25),
}
# Distances to neighbours tell all; errors without noise, which are all 0, tell nothing (`Study.add`).
KNN = {
    "id_validation": (-1, -2, -3),
    "proxy_ood": (-5, -6),
    "id_test": (-1, -2, -3, -4),
    "held_out": (-7,) * 5,
}
PAPER = published("song")


def logits_of(confidences):
    """Returns logits of three classes whose largest softmax, of class 0, is as given."""
    return np.log([(c, (1 - c) * 0.6, (1 - c) * 0.4) for c in confidences])


class Study:
    """Networks whose outputs are written by hand."""

    def __init__(self, store):
        self.store = store
        self.records = []

    def add(self, dataset="mine-without-1", method="std-1", seed=0, held_out=OOD):
        """Adds a network; `classifier` is one without a decoder."""
        decoder = method != "classifier"
        weight = float(method == "cross-entropy")  # another trial than those of the other names
        trained_by = Denoising(std_weight=weight, title=method) if decoder else CrossEntropy(title=method)
        trial = Trial(dataset, "8", "0123", "denoising_classifier", trained_by, 7, "cosine", seed=seed)
        self.store.begin(trial)
        confidences = {"id_validation": VALIDATION, "id_test": ID, "held_out": held_out}
        if decoder:
            confidences["proxy_ood"] = PROXIES
        for name, of in confidences.items():
            labels = np.where(RIGHT, 0, 1) if name == "id_test" else np.full(len(of), -1)
            scores = {"knn": np.array(KNN[name], float)}
            if decoder:
                scores |= {"denoising": -np.array(ERRORS[name]), "reconstruction": np.zeros(len(of))}
            self.store.write_outputs(trial, name, logits_of(of), labels, scores=scores)
        self.records.append(
            {
                **{"trial": trial.id, "dataset": dataset, "model": trial.model, "method": method, "seed": seed},
                **{"loss": trained_by.name, "starts_anew": True, "epochs": 7, "precision": "float32"},
                **{"batch_size": 32, "accuracy_train": 0.5, "accuracy_last": 0.5},
                **{"train_images": 1200, "evaluation_images": 4, "image_size": "8", "classes": 3},
            }
        )
        return self

    def measured(self):
        return measured(self.records, self.store)

    def zero(self):
        return zero_table(self.measured(), self.records, PAPER)[0]


@pytest.fixture
def study(store):
    return Study(store)


class TestMeasured:
    @pytest.fixture
    def network(self, study):
        return study.add().measured().set_index("criterion")

    def test_what_is_measured(self, network, study):
        assert list(network.index) == [
            *("msp", "energy", "knn", "denoising", "reconstruction"),
            *("msp and denoising", "msp at tpr 0.9"),
        ]
        for name, value in (("dataset", "mine"), ("class", "1"), ("method", "std-1"), ("seed", 0), ("accuracy", 0.5)):
            assert (network[name] == value).all()
        assert set(network["trial"]) == {study.records[0]["trial"]}

    def test_by_the_maximum_softmax(self, network):
        row = network.loc["msp"]
        assert row["threshold"] == pytest.approx(0.8)
        assert row["zero_accuracy"] == 4 / 5
        assert row["else_accuracy"] == 1 / 4
        assert row["fpr_at_95_id"] == 4 / 5  # 95 % of four images are all of them: down to 0.5
        labels = np.repeat([1, 0], [4, 5])
        assert row["auroc"] == pytest.approx(roc_auc_score(labels, [*ID, *OOD]))

    def test_by_the_maximum_softmax_and_the_error(self, network):
        row = network.loc["msp and denoising"]
        assert row["threshold"] == pytest.approx(0.8)
        assert row["zero_accuracy"] == 3 / 5
        assert row["else_accuracy"] == 2 / 4
        assert row[["auroc", "fpr_at_95_id"]].isna().all()

    def test_by_the_softmax_that_nine_tenths_of_validation_pass(self, network):
        """Nine tenths of three are all of them: down to 0.7."""
        row = network.loc["msp at tpr 0.9"]
        assert row["threshold"] == pytest.approx(0.7)
        assert row["zero_accuracy"] == pytest.approx(3 / 5)
        assert row["else_accuracy"] == 1 / 4

    def test_by_the_error_alone(self, network):
        """At 0.15 all validation images pass and no proxy OOD image."""
        row = network.loc["denoising"]
        assert row["threshold"] == -0.15
        assert row["zero_accuracy"] == 4 / 5
        assert row["else_accuracy"] == 2 / 4
        errors = [*ERRORS["id_test"], *ERRORS["held_out"]]
        assert row["auroc"] == pytest.approx(roc_auc_score([1] * 4 + [0] * 5, [-error for error in errors]))

    def test_by_stored_scores(self, network):
        knn = network.loc["knn"]
        assert knn[["auroc", "fpr_at_95_id", "threshold"]].tolist() == [1, 0, -3]
        assert (knn["zero_accuracy"], knn["else_accuracy"]) == (1, 2 / 4)
        reconstruction = network.loc["reconstruction"]
        assert reconstruction[["auroc", "fpr_at_95_id"]].tolist() == [0.5, 1]
        assert (reconstruction["zero_accuracy"], reconstruction["else_accuracy"]) == (0, 2 / 4)

    def test_a_classifier_alone_has_no_proxy_images_to_choose_on(self, study):
        network = study.add(method="classifier").measured().set_index("criterion")
        assert list(network.index) == ["msp", "energy", "knn", "msp at tpr 0.9"]
        metrics = ["threshold", "zero_accuracy", "else_accuracy"]
        assert network.loc[["msp", "energy", "knn"], metrics].isna().all(axis=None)
        assert network.loc["msp at tpr 0.9", metrics].tolist() == pytest.approx([0.7, 3 / 5, 1 / 4])
        assert network.loc["msp", "auroc"] == pytest.approx(roc_auc_score([1] * 4 + [0] * 5, [*ID, *OOD]))

    def test_images_found_by_all_and_by_none(self, study):
        found = study.add(held_out=(0.4,) * 5).add(held_out=(0.99,) * 5, seed=1).measured()
        assert found[found["criterion"] == "msp"][["zero_accuracy", "auroc", "fpr_at_95_id"]].values.tolist() == [
            [1, 1, 0],
            [0, 0, 1],
        ]


@pytest.mark.parametrize(
    ("name", "parts"),
    [("mnist-without-0", ("mnist", "0")), ("a-without-b-without-12", ("a-without-b", "12"))],
)
def test_a_data_set_is_told_from_the_class_that_it_lacks(name, parts):
    assert base_and_class(name) == parts


SOFTMAX = ("softmax", "0.8000", "80.00", "25.00")
BOTH = ("softmax, error", "0.8000", "60.00", "50.00")
AT_RATE = ("90% pass", "0.7000", "60.00", "25.00")
BELOW = ("",) * 3
PUBLISHED = ("published", "99", "–", "softmax, error", "0.659", "96", "90")


class TestZeroTable:
    def test_three_criteria_of_a_network(self, study):
        table = study.add().zero()
        assert table.header == (
            *("network", "method", "accuracy %", "AUROC %", "criterion", "threshold"),
            *("zero %", "else %"),
        )
        auroc = f"{100 * roc_auc_score([1] * 4 + [0] * 5, [*ID, *OOD]):.2f}"
        assert table.rows == (
            ("mine", "std-1", "50.00", auroc, *SOFTMAX),
            ("without 1", *BELOW, *BOTH),
            ("n = 1", *BELOW, *AT_RATE),
        )

    def test_published_numbers_stand_below_the_network_that_they_are_of(self, study):
        for dataset, method in (
            *(("mnist-without-0", "cross-entropy"), ("mnist-without-0", "std-1"), ("mnist-without-0", "std-5")),
            *(("mnist-without-1", "std-1"), ("digits-without-0", "std-1")),
        ):
            study.add(dataset, method)
        rows = study.zero().rows
        assert [row[1] for row in rows if row[1]] == [
            *("cross-entropy", "std-1", "published", "std-5"),
            *("std-1", "std-1", "std-1"),  # of mnist without 1, of digits, and the mean over both classes of mnist
        ]
        assert rows[6] == ("", *PUBLISHED)

    def test_a_classifier_alone_is_judged_without_proxy_images(self, study):
        row, *others = study.add(method="classifier").zero().rows
        assert row[1:3] == ("classifier", "50.00")
        assert row[3] != "–"
        assert row[4:] == AT_RATE
        assert [other[0] for other in others] == ["without 1", "n = 1"]
        assert not any(cell for other in others for cell in other[1:])

    def test_held_out_classes_stand_alone_and_in_their_mean(self, study):
        study.add("mine-without-0", held_out=(0.4,) * 5).add("mine-without-3", held_out=(0.99,) * 5)
        study.add("other-without-0")
        rows = study.zero().rows
        first = [row for row in rows if row[4] == "softmax"]
        assert [row[:2] for row in first] == [(name, "std-1") for name in ("mine", "mine", "other", "mine")]
        assert [row[0] for row in rows if row[4] == "softmax, error"] == [
            "without 0",
            "without 3",
            "without 0",
            "mean of 2",
        ]
        assert [row[0] for row in rows if row[4] == "90% pass"] == ["n = 1", "n = 1", "n = 1", "n = 2"]
        # of 100 and 0 the deviation is 70.71; of equal ones 0
        assert first[-1][2:] == (
            *("50.00 ± 0.00", "50.00 ± 70.71", "softmax", "0.8000 ± 0.0000", "50.00 ± 70.71", "25.00 ± 0.00"),
        )

    def test_seeds_are_averaged_over(self, study):
        study.add(held_out=(0.4,) * 5).add(held_out=(0.99,) * 5, seed=1)
        first, _, third = study.zero().rows
        assert first[:2] == ("mine", "std-1")
        assert first[6] == "50.00 ± 70.71"
        assert third[0] == "n = 2"

    def test_the_frame_has_a_row_per_network_and_criterion(self, study):
        study.add().add(method="classifier").add(seed=1)
        _, frame = zero_table(study.measured(), study.records, PAPER)
        assert frame.groupby(["method", "seed"]).size().to_dict() == {
            ("std-1", 0): 3,
            ("std-1", 1): 3,
            ("classifier", 0): 1,
        }

    def test_notes_say_what_the_networks_were_trained_on(self, study):
        table = study.add("mine-without-0").add("mine-without-0", "std-5").add("mine-without-1").zero()
        assert table.notes == tuple(
            f"mine-without-{index}: 7 epochs, 1,200 training and 4 evaluation images of 8 px in 3 classes; float32."
            for index in (0, 1)
        )


class TestDetectorsTable:
    def test_each_score_of_a_network_has_a_row(self, study):
        table, frame = detectors_table(study.add().measured())
        assert [row[2] for row in table.rows] == [
            *("maximum softmax", "energy", "KNN", "denoising error", "reconstruction error"),
        ]
        assert {row[:2] for row in table.rows} == {("mine", "std-1")}
        assert table.rows[2][3:] == ("1", "100.00", "0.00", "100.00", "50.00")
        assert table.rows[4][4:] == ("50.00", "100.00", "0.00", "50.00")
        assert len(frame) == 5

    def test_a_classifier_alone_has_no_thresholds_of_its_own(self, study):
        table, _ = detectors_table(study.add(method="classifier").measured())
        assert [row[2] for row in table.rows] == ["maximum softmax", "energy", "KNN"]
        assert {row[6:] for row in table.rows} == {("–", "–")}
        assert all("–" not in row[:6] for row in table.rows)

    def test_means_are_over_all_held_out_classes(self, study):
        study.add("mine-without-0", held_out=(0.4,) * 5).add("mine-without-3", held_out=(0.99,) * 5)
        table, frame = detectors_table(study.measured())
        softmax = table.rows[0]
        assert softmax[:4] == ("mine", "std-1", "maximum softmax", "2")
        assert softmax[4:] == ("50.00 ± 70.71", "50.00 ± 70.71", "50.00 ± 70.71", "25.00 ± 0.00")
        assert frame["class"].unique().tolist() == ["0", "3"]


def test_tables_are_written_as_shown_and_unrounded(study, tmp_path):
    networks = study.add("mnist-without-0").measured()
    table, frame = zero_table(networks, study.records, PAPER)
    table.write(tmp_path, frame)
    assert "|           | published | 99 " in (tmp_path / "zero.md").read_text()
    assert "--" in (tmp_path / "zero.tex").read_text()
    read = pd.read_csv(tmp_path / "zero.csv").set_index("criterion")
    assert read.loc["msp", "threshold"] == pytest.approx(0.8, abs=1e-7)
    assert np.isnan(read.loc["msp and denoising", "auroc"])


class TestDifferences:
    def test_they_are_of_the_id_test_and_the_held_out_images(self, study):
        for seed in (0, 1):
            study.add(method="cross-entropy", seed=seed).add(method="std-1", seed=seed, held_out=(0.1,) * 5)
        _, numbers = differences_table(study.records, study.store)
        found = numbers.set_index("metric")
        assert set(found["method"]) == {"std-1"}
        assert found["difference"]["accuracy"] == 0
        labels = np.repeat([1, 0], [4, 5])
        areas = [
            roc_auc_score(labels, [*ID, *held_out]) for held_out in (OOD, (0.54,) * 5)
        ]  # the largest of 0.1, 0.54, 0.36
        assert found["difference"]["auroc_held_out"] == pytest.approx(areas[1] - areas[0])

    def test_without_cross_entropy_there_are_none(self, study):
        assert differences_table(study.add().add(method="std-5").records, study.store) is None
