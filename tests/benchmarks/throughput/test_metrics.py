import tracemalloc

from benchmarks.throughput import metrics
from benchmarks.throughput.peers.metrics import make_predictions, with_kls


def test_peers_alternate_and_agree_and_lack_what_is_a_dash(monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # PyTorch's threads wait busily, and test processes share the cores
    frame = metrics.compare(2000, 50, 2, tmp_path)
    peers = list(frame["peer"][: len(frame) // 2])
    assert peers[:2] == ["kls", "scikit-learn"]
    assert list(frame["peer"]) == peers * 2
    assert list(frame["round"]) == [1] * len(peers) + [2] * len(peers)
    for name in ("accuracy", "nll", "brier"):
        assert frame[name].max() - frame[name].min() < 1e-5
    rows = {row[0]: row[1:] for row in metrics.metrics_table(frame, 2000, 50).rows}
    assert rows["kls"][1] == "1.00"
    assert rows["scikit-learn"][4] == "–"


def test_kls_needs_less_memory_than_the_logits_once_more():
    logits, labels = make_predictions(4000, 500)
    with_kls(logits, labels)  # imports
    tracemalloc.start()
    with_kls(logits, labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.75 * logits.nbytes
