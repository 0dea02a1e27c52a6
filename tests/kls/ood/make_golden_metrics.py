"""Writes golden_metrics.json: what OpenOOD and PyTorch-OOD make of the same scores, for test_metrics.py.

    python tests/kls/ood/make_golden_metrics.py METRICS_PY

METRICS_PY is openood/evaluators/metrics.py of a checkout of OpenOOD at the commit below: the file alone, since it
needs no more than NumPy and scikit-learn. PyTorch-OOD (https://github.com/kkirchheim/pytorch-ood) is an installed
package. Scores are larger = more in-distribution.
"""

import importlib.util
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

SEED = 20240612
COMMAND = "python tests/kls/ood/make_golden_metrics.py METRICS_PY"
OPENOOD = "https://github.com/Jingkang50/OpenOOD at 3c35632ee91b54b09d1f085d04f94744cece7d0b"
PACKAGES = ("pytorch-ood", "torch", "numpy", "scikit-learn")


def cases(seed):
    """Returns `{name: (scores of ID samples, scores of OOD samples)}`."""
    rng = np.random.default_rng(seed)

    def normal(mean, count, step):
        return (rng.normal(mean, 1, count) / step).round() * step

    fine = 1 / 4096
    return {
        "well told apart": (normal(3, 120, fine), normal(0, 90, fine)),
        "overlapping": (normal(1, 150, fine), normal(0, 150, fine)),
        "wide OOD": (normal(1, 100, fine), 3 * normal(0, 60, fine)),
        "reversed": (normal(-1, 60, fine), normal(0, 140, fine)),
        "some ties": (normal(2, 130, 1 / 16), normal(0, 110, 1 / 16)),
        "many ties": (normal(1, 90, 0.5), normal(0, 120, 0.5)),
        "two values": (rng.integers(0, 2, 40).astype(float), rng.integers(0, 2, 25).astype(float)),
        "one value": (np.ones(12), np.ones(20)),
        "perfect": (normal(20, 30, fine), normal(0, 20, fine)),
    }


def openood(path, id_scores, ood_scores):
    """Returns the metrics by the code of OpenOOD."""
    spec = importlib.util.spec_from_file_location("openood_metrics", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    labels = np.r_[np.zeros(len(id_scores), int), np.full(len(ood_scores), -1)]
    auroc, aupr_in, aupr_out, fpr = module.auc_and_fpr_recall(np.r_[id_scores, ood_scores], labels, 0.95)
    return {"auroc": auroc, "aupr_in": aupr_in, "aupr_out": aupr_out, "fpr95": fpr}


def pytorch_ood(id_scores, ood_scores):
    """Returns the metrics by PyTorch-OOD."""
    import torch
    from pytorch_ood.metrics import OODMetrics

    labels = np.r_[np.zeros(len(id_scores), int), np.full(len(ood_scores), -1)]
    metrics = OODMetrics().update(torch.tensor(-np.r_[id_scores, ood_scores]), torch.tensor(labels))
    found = metrics.compute()
    names = {"auroc": "AUROC", "aupr_in": "AUPR-IN", "aupr_out": "AUPR-OUT", "fpr95": "FPR95TPR"}
    return {name: found[theirs] for name, theirs in names.items()}


def main():
    found = [
        {
            "case": name,
            "id_scores": id_scores.tolist(),
            "ood_scores": ood_scores.tolist(),
            "openood": openood(sys.argv[1], id_scores, ood_scores),
            "pytorch_ood": pytorch_ood(id_scores, ood_scores),
        }
        for name, (id_scores, ood_scores) in cases(SEED).items()
    ]
    content = {
        "command": COMMAND,
        "seed": SEED,
        "openood": OPENOOD,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "sign": "larger = more in-distribution",
    }
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in content.items()]
    lines.append('"cases": [\n' + ",\n".join(map(json.dumps, found)) + "\n]")
    Path(__file__).with_name("golden_metrics.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
