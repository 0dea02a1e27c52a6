"""The numbers of a few images, counted by hand, and how they stand in the tables."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.mnist_zero.tables import base_and_class, detectors_table, measured, zero_table
from benchmarks.runner.published import published
from benchmarks.runner.tables import Bold
from benchmarks.runner.trial import Trial

# Maximum softmax of each image. Of validation images and stand-ins 0.8 keeps 2 of 3 and refuses both (5/6); 0.7 keeps
# all and refuses one (3/4). So the threshold is 0.8.
VALIDATION, STAND_INS = (0.9, 0.8, 0.7), (0.5, 0.75)
# Of the familiar test images the first and third are classified rightly; 0.8 keeps the first two.
FAMILIAR, RIGHT = (0.95, 0.85, 0.6, 0.5), (True, False, True, False)
# Of the unfamiliar ones 0.8 keeps the first.
UNFAMILIAR = (0.9, 0.7, 0.6, 0.55, 0.4)
# The least error among the stand-ins is 0.2: of the familiar ones it passes also the third, of the unfamiliar ones the
# second, whose error is below it, but not the third, whose error is equal.
ERRORS = {
    "validation": (0.1, 0.05, 0.15),
    "reconstructions": (0.3, 0.2),
    "familiar": (0.1, 0.5, 0.1, 0.2),
    "unfamiliar": (0.5, 0.15, 0.2, 0.3, 0.25),
}
# Distances to neighbours tell all; errors without noise, which are all 0, tell nothing (`Study.add`).
KNN = {
    "validation": (-1, -2, -3),
    "reconstructions": (-5, -6),
    "familiar": (-1, -2, -3, -4),
    "unfamiliar": (-7,) * 5,
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

    def add(self, dataset="mine-without-1", method="std-1", seed=0, unfamiliar=UNFAMILIAR):
        """Adds a network; `classifier` is one without a decoder."""
        decoder = method != "classifier"
        trial = Trial(dataset, "8", "0123", "denoising_classifier", 1.0, "cosine", 7, seed=seed, configuration=method)
        self.store.begin(trial)
        confidences = {"validation": VALIDATION, "familiar": FAMILIAR, "unfamiliar": unfamiliar}
        if decoder:
            confidences["reconstructions"] = STAND_INS
        for name, of in confidences.items():
            labels = np.where(RIGHT, 0, 1) if name == "familiar" else np.full(len(of), -1)
            scores = {"knn": np.array(KNN[name], float)}
            if decoder:
                scores |= {"denoising": -np.array(ERRORS[name]), "reconstruction": np.zeros(len(of))}
            self.store.write_outputs(trial, name, logits_of(of), labels, scores=scores)
        self.records.append(
            {
                **{"trial": trial.id, "dataset": dataset, "configuration": method, "seed": seed},
                **{"loss": "denoising" if decoder else "smoothed_ce", "epochs": 7, "precision": "float32"},
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
        assert row["auroc"] == pytest.approx(roc_auc_score(labels, [*FAMILIAR, *UNFAMILIAR]))

    def test_by_the_maximum_softmax_and_the_error(self, network):
        row = network.loc["msp and denoising"]
        assert row["threshold"] == pytest.approx(0.8)
        assert row["zero_accuracy"] == 3 / 5
        assert row["else_accuracy"] == 2 / 4
        assert row[["auroc", "fpr_at_95_id"]].isna().all()

    def test_by_the_softmax_that_nine_tenths_of_the_validation_images_pass(self, network):
        """Nine tenths of three are all of them: down to 0.7."""
        row = network.loc["msp at tpr 0.9"]
        assert row["threshold"] == pytest.approx(0.7)
        assert row["zero_accuracy"] == pytest.approx(3 / 5)
        assert row["else_accuracy"] == 1 / 4

    def test_by_the_error_alone(self, network):
        """At 0.15 all validation images pass and no stand-in."""
        row = network.loc["denoising"]
        assert row["threshold"] == -0.15
        assert row["zero_accuracy"] == 4 / 5
        assert row["else_accuracy"] == 2 / 4
        errors = [*ERRORS["familiar"], *ERRORS["unfamiliar"]]
        assert row["auroc"] == pytest.approx(roc_auc_score([1] * 4 + [0] * 5, [-error for error in errors]))

    def test_by_stored_scores(self, network):
        knn = network.loc["knn"]
        assert knn[["auroc", "fpr_at_95_id", "threshold"]].tolist() == [1, 0, -3]
        assert (knn["zero_accuracy"], knn["else_accuracy"]) == (1, 2 / 4)
        reconstruction = network.loc["reconstruction"]
        assert reconstruction[["auroc", "fpr_at_95_id"]].tolist() == [0.5, 1]
        assert (reconstruction["zero_accuracy"], reconstruction["else_accuracy"]) == (0, 2 / 4)

    def test_a_classifier_alone_has_no_stand_ins_to_choose_on(self, study):
        network = study.add(method="classifier").measured().set_index("criterion")
        assert list(network.index) == ["msp", "energy", "knn", "msp at tpr 0.9"]
        measures = ["threshold", "zero_accuracy", "else_accuracy"]
        assert network.loc[["msp", "energy", "knn"], measures].isna().all(axis=None)
        assert network.loc["msp at tpr 0.9", measures].tolist() == pytest.approx([0.7, 3 / 5, 1 / 4])
        assert network.loc["msp", "auroc"] == pytest.approx(roc_auc_score([1] * 4 + [0] * 5, [*FAMILIAR, *UNFAMILIAR]))

    def test_images_found_by_all_and_by_none(self, study):
        found = study.add(unfamiliar=(0.4,) * 5).add(unfamiliar=(0.99,) * 5, seed=1).measured()
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
BOTH = ("softmax and error", "0.8000", "60.00", "50.00")
AT_RATE = ("softmax that 90% pass", "0.7000", "60.00", "25.00")
BELOW = ("",) * 6
PUBLISHED = ("", "", "published", "?", "99", "–", "softmax and error", "0.659", "96", "90")


class TestZeroTable:
    def test_three_criteria_of_a_network(self, study):
        table = study.add().zero()
        assert table.header == (
            *("data set", "left out", "method", "n", "accuracy %", "AUROC %", "criterion", "threshold"),
            *("zero %", "else %"),
        )
        auroc = f"{100 * roc_auc_score([1] * 4 + [0] * 5, [*FAMILIAR, *UNFAMILIAR]):.2f}"
        assert table.rows == (
            ("mine", "1", "std-1", "1", "50.00", auroc, *SOFTMAX),
            (*BELOW, *BOTH),
            (*BELOW, *AT_RATE),
        )

    def test_published_numbers_stand_below_the_network_that_they_are_of(self, study):
        for dataset, method in (
            *(("mnist-without-0", "cross-entropy"), ("mnist-without-0", "std-1"), ("mnist-without-0", "std-5")),
            *(("mnist-without-1", "std-1"), ("digits-without-0", "std-1")),
        ):
            study.add(dataset, method)
        rows = study.zero().rows
        assert [row[2] for row in rows if row[2]] == [
            *("cross-entropy", "std-1", "published", "std-5"),
            *("std-1", "std-1", "std-1"),  # of mnist without 1, of digits, and the mean over both classes of mnist
        ]
        assert rows[6] == PUBLISHED

    def test_a_classifier_alone_has_the_criterion_that_needs_no_stand_ins(self, study):
        (row,) = study.add(method="classifier").zero().rows
        assert row[2:5] == ("classifier", "1", "50.00")
        assert row[5] != "–"
        assert row[6:] == AT_RATE

    def test_classes_left_out_stand_alone_and_in_their_mean(self, study):
        study.add("mine-without-0", unfamiliar=(0.4,) * 5).add("mine-without-3", unfamiliar=(0.99,) * 5)
        study.add("other-without-0")
        rows = study.zero().rows
        first = [row for row in rows if row[6] == "softmax"]
        assert [row[:4] for row in first] == [
            *(("mine", "0", "std-1", "1"), ("mine", "3", "std-1", "1"), ("other", "0", "std-1", "1")),
            ("mine", "mean of 2", "std-1", "2"),
        ]
        # of 100 and 0 the deviation is 70.71; of equal ones 0
        assert first[-1][4:] == (
            *("50.00 ± 0.00", "50.00 ± 70.71", "softmax", "0.8000 ± 0.0000", "50.00 ± 70.71", "25.00 ± 0.00"),
        )

    def test_seeds_are_averaged_over(self, study):
        study.add(unfamiliar=(0.4,) * 5).add(unfamiliar=(0.99,) * 5, seed=1)
        first, *_ = rows = study.zero().rows
        assert first[:4] == ("mine", "1", "std-1", "2")
        assert first[8] == "50.00 ± 70.71"
        assert len(rows) == 3

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
    def test_each_score_of_a_network_with_the_best_in_bold(self, study):
        table, frame = detectors_table(study.add().measured())
        assert [row[2] for row in table.rows] == [
            *("maximum softmax", "energy", "KNN", "denoising error", "reconstruction error"),
        ]
        assert {row[:2] for row in table.rows} == {("mine", "std-1")}
        assert table.rows[2][3:] == ("1", Bold("100.00"), "0.00", "100.00", "50.00")
        assert [isinstance(row[4], Bold) for row in table.rows] == [False, False, True, False, False]
        assert table.rows[4][4:] == ("50.00", "100.00", "0.00", "50.00")
        assert len(frame) == 5

    def test_a_classifier_alone_has_no_thresholds_of_its_own(self, study):
        table, _ = detectors_table(study.add(method="classifier").measured())
        assert [row[2] for row in table.rows] == ["maximum softmax", "energy", "KNN"]
        assert {row[6:] for row in table.rows} == {("–", "–")}
        assert all("–" not in row[:6] for row in table.rows)

    def test_means_are_over_all_classes_left_out(self, study):
        study.add("mine-without-0", unfamiliar=(0.4,) * 5).add("mine-without-3", unfamiliar=(0.99,) * 5)
        table, frame = detectors_table(study.measured())
        softmax = table.rows[0]
        assert softmax[:4] == ("mine", "std-1", "maximum softmax", "2")
        assert softmax[4:] == ("50.00 ± 70.71", "50.00 ± 70.71", "50.00 ± 70.71", "25.00 ± 0.00")
        assert frame["class"].unique().tolist() == ["0", "3"]


def test_tables_are_written_as_shown_and_unrounded(study, tmp_path):
    networks = study.add("mnist-without-0").measured()
    table, frame = zero_table(networks, study.records, PAPER)
    table.write(tmp_path, frame)
    assert "|            |            | published | ?   | 99 " in (tmp_path / "zero.md").read_text()
    assert "--" in (tmp_path / "zero.tex").read_text()
    read = pd.read_csv(tmp_path / "zero.csv").set_index("criterion")
    assert read.loc["msp", "threshold"] == pytest.approx(0.8, abs=1e-7)
    assert np.isnan(read.loc["msp and denoising", "auroc"])
