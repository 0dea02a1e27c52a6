import pandas as pd
import pytest

from benchmarks.throughput import main


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    out = tmp_path_factory.mktemp("throughput")
    assert main(["measures", "--samples", "2000", "--classes", "50", "--repeats", "2", "--out", str(out)]) == 0
    return pd.read_csv(out / "tables" / "measures.csv")


def test_peers_take_turns_and_agree(frame):
    peers = list(frame["peer"][: len(frame) // 2])
    assert peers[:2] == ["kls", "scikit-learn"]
    assert list(frame["peer"]) == peers * 2
    assert list(frame["round"]) == [1] * len(peers) + [2] * len(peers)
    for measure in ("accuracy", "nll", "brier"):
        assert frame[measure].max() - frame[measure].min() < 1e-5


def test_kls_needs_less_memory_than_the_logits_once_more(tmp_path):
    import tracemalloc

    from benchmarks.peers import make_predictions, with_kls

    logits, labels = make_predictions(4000, 500)
    measure = with_kls()
    tracemalloc.start()
    measure(logits, labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.75 * logits.nbytes
