import pandas as pd
import pytest

from benchmarks.throughput import evaluation, measures
from benchmarks.throughput.images import open_images
from benchmarks.throughput.peers.measures import make_predictions, with_kls


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # PyTorch's threads wait busily, and test processes share the cores
        return measures.race(2000, 50, 2, tmp_path_factory.mktemp("throughput"))


def test_peers_take_turns_and_agree(frame):
    peers = list(frame["peer"][: len(frame) // 2])
    assert peers[:2] == ["kls", "scikit-learn"]
    assert list(frame["peer"]) == peers * 2
    assert list(frame["round"]) == [1] * len(peers) + [2] * len(peers)
    for measure in ("accuracy", "nll", "brier"):
        assert frame[measure].max() - frame[measure].min() < 1e-5


def test_the_table_names_what_a_peer_does_not_have(frame):
    rows = {row[0]: row[1:] for row in measures.measures_table(frame, 2000, 50).rows}
    assert rows["kls"][1] == "1.00"
    assert rows["scikit-learn"][4] == "–"


def test_kls_needs_less_memory_than_the_logits_once_more():
    import tracemalloc

    logits, labels = make_predictions(4000, 500)
    measure = with_kls()
    tracemalloc.start()
    measure(logits, labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.75 * logits.nbytes


def test_both_parts_of_an_evaluation_are_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "MODEL", "resnet8v1")
    dataset = open_images(None, 8, tmp_path / "data", tmp_path)
    place = {"dataset": dataset.name, "image_size": dataset.size, "data_dir": str(tmp_path)}
    _, turn = evaluation.prepare({"images": 50, "classes": [10, 100], **place})
    rows = turn()["rows"]
    assert [row["classes"] for row in rows] == [10, 100]
    assert min(min(row["prediction"], row["measures"]) for row in rows) > 0


def test_all_measures_are_computed():
    logits, labels = make_predictions(200, 5)
    found = evaluation.all_measures(logits, labels, logits / 2)
    assert {"accuracy", "ece", "nll", "aurc", "classwise", "debiased", "auroc", "fpr95"} <= set(found)
    assert found["auroc"] > 0.5


def test_the_share_is_the_median_of_the_rounds_shares():
    frame = pd.DataFrame(
        {"images": 1000, "round": number, "classes": 10, "prediction": prediction, "measures": 0.1}
        for number, prediction in enumerate((1.0, 2.0, 10.0))
    )
    assert measures.evaluation_table(frame).rows == (("10", "2.000", "0.1000", "5.0", "3"),)
