"""Writes golden.json: what PyTorch-OOD makes of a small linear head, for test_scores.py.

    python tests/kls/ood/scores/make_golden.py

A process of its own: PyTorch and TensorFlow cannot share one. Scores are kept as PyTorch-OOD gives them, larger = more
out-of-distribution; test_scores.py says by which factor each differs from its paper. Inputs are kept too, all of them
exact in float32.
"""

import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np

SEED = 20240611
COMMAND = "python tests/kls/ood/scores/make_golden.py"
PACKAGES = ("pytorch-ood", "torch", "numpy", "scikit-learn")


def inputs(seed):
    """Returns features of 5 classes after a ReLU, a head for them, and a hidden layer with its images."""
    rng = np.random.default_rng(seed)
    labels = np.arange(60) % 5
    centres = rng.normal(scale=1.5, size=(5, 8))
    arrays = {
        "train": np.maximum(centres[labels] + rng.normal(size=(60, 8)), 0),
        "test": np.maximum(rng.normal(scale=2, size=(12, 8)), 0),
        "kernel": rng.normal(size=(8, 5)),
        "bias": rng.normal(size=5),
        "images": rng.random((12, 6)),
        "hidden_kernel": rng.normal(size=(6, 8)),
        "hidden_bias": rng.normal(size=8),
    }
    arrays = {name: (array * 1024).round() / 1024 for name, array in arrays.items()}
    return {**arrays, "labels": labels}


def golden(arrays):
    """Returns the scores by name, in PyTorch-OOD's sign."""
    import torch
    from pytorch_ood import detector

    torch.set_default_dtype(torch.float64)
    given = {name: torch.as_tensor(array) for name, array in arrays.items()}
    head = torch.nn.Linear(8, 5)
    head.weight.data, head.bias.data = given["kernel"].T.contiguous(), given["bias"]
    hidden = torch.nn.Linear(6, 8)
    hidden.weight.data, hidden.bias.data = given["hidden_kernel"].T.contiguous(), given["hidden_bias"]
    network = torch.nn.Sequential(hidden, torch.nn.Tanh(), head)
    train, test, labels = given["train"], given["test"], given["labels"]
    with torch.no_grad():
        train_logits, logits = head(train), head(test)

    def pooled(features):
        return features[:, :, None, None]

    def flat_head(maps):
        return head(maps[:, :, 0, 0])

    react = {p: detector.ReAct(None, flat_head, percentile=p / 100) for p in (70, 90)}
    for found in react.values():
        found.fit_feature_maps(pooled(train), labels)
    odin = {"odin": (1000.0, 0.0014), "odin_t10_e50": (10.0, 0.05)}
    scores = {
        "msp": detector.MaxSoftmax.score(logits),
        "msp_t10": detector.MaxSoftmax.score(logits, 10.0),
        "max_logit": detector.MaxLogit.score(logits),
        "energy": detector.EnergyBased.score(logits),
        "energy_t3": detector.EnergyBased.score(logits, 3.0),
        "entropy": detector.Entropy.score(logits),
        "gen_t4": detector.GEN.score(logits / 4),  # softened: it cuts probabilities at 1e-7
        "gen_t4_top3": detector.GEN.score(logits / 4, gamma=0.3, M=3),
        "mahalanobis": detector.Mahalanobis(None).fit_features(train, labels).predict_features(test),
        "relative_mahalanobis": detector.RMD(None).fit_features(train, labels).predict_features(test),
        "knn_k1": detector.KNN(None, k=1).fit_features(train, labels).predict_features(test),
        "knn_k7": detector.KNN(None, k=7).fit_features(train, labels).predict_features(test),
        "vim_d4": detector.ViM(None, 4, head.weight, head.bias).fit_features(train, labels).predict_features(test),
        "vim_d6": detector.ViM(None, 6, head.weight, head.bias).fit_features(train, labels).predict_features(test),
        "kl_matching": detector.KLMatching(None).fit_logits(train_logits).predict_logits(logits),
        **{f"react_p{p}": found.predict_feature_maps(pooled(test)) for p, found in react.items()},
        **{
            f"ash_p{p}": detector.ASH(None, flat_head, "ash-s", p / 100).predict_feature_maps(pooled(test))
            for p in (65, 90)
        },
        **{
            name: detector.ODIN(network, eps=epsilon, temperature=temperature).predict(given["images"])
            for name, (temperature, epsilon) in odin.items()
        },
    }
    return {name: values.detach().numpy().astype(float).tolist() for name, values in scores.items()}


def main():
    arrays = inputs(SEED)
    content = {
        "command": COMMAND,
        "seed": SEED,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "sign": "larger = more out-of-distribution, as PyTorch-OOD gives them",
        "inputs": {name: array.tolist() for name, array in arrays.items()},
        "scores": golden(arrays),
    }
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in content.items()]
    Path(__file__).with_name("golden.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
