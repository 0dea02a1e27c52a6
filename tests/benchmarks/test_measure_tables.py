from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.runner.tables import REVERSED
from benchmarks.tables import main
from kls import calibration, ood


@pytest.fixture
def run(store, make_trial):
    """Two seeds of one gamma and one of another, with logits from a generator in place of networks."""
    rng = np.random.default_rng(0)
    for gamma, seed in ((1.0, 0), (1.0, 1), (0.9, 0)):
        trial = make_trial(gamma=gamma, seed=seed)
        store.begin(trial)
        logits, labels = rng.normal(size=(60, 3)) * 3, rng.integers(0, 3, 60)
        store.write_outputs(trial, "test", logits, labels)
        store.write_outputs(trial, "noise", rng.normal(size=(40, 3)), np.full(40, -1))
        store.finish(trial, "study", {"evaluation": "test", "ood": {"noise": "0"}, "features": []})
    return store


def table(store, *arguments):
    assert main([str(store.out), *arguments]) == 0
    return pd.read_csv(store.out / "tables" / "measures.csv")


def logits_of(store, row):
    class Named:
        id = row.trial

    return store.logits(Named, "test"), store.logits(Named, "noise")[0]


def test_every_measure_is_computed_from_the_logits_alone(run, capsys):
    frame = table(run, "--measure", *calibration.MEASURES)
    for row in frame.itertuples():
        (logits, labels), _ = logits_of(run, row)
        for name, function in calibration.MEASURES.items():
            assert getattr(row, name) == pytest.approx(function(labels, logits, from_logits=True), abs=1e-12)
    out = capsys.readouterr().out
    cells = frame[frame["gamma"] == 1.0]["nll"]
    assert f"{cells.mean():.4f} ± {cells.std():.4f}" in out
    assert {path.suffix for path in (run.out / "tables").iterdir()} == {".md", ".csv", ".tex"}


def test_bins_reach_the_measures_that_have_bins(run, capsys):
    frame = table(run, "--measure", "ece", "nll", "--bins", "4", "--binning", "mass")
    for row in frame.itertuples():
        (logits, labels), _ = logits_of(run, row)
        expected = calibration.expected_calibration_error(labels, logits, 4, "mass", from_logits=True)
        assert row.ece == pytest.approx(expected, abs=1e-12)
    assert "ece: bins 4, binning mass, convention guo." in capsys.readouterr().out


def test_ood_measures_by_another_score(run):
    frame = table(run, "--measure", "auroc", "aupr_in", "--score", "energy")
    for row in frame.itertuples():
        (logits, _), unfamiliar = logits_of(run, row)
        scores = np.concatenate([logsumexp(x.astype(np.float64), axis=1) for x in (logits, unfamiliar)])
        familiar = np.arange(100) < 60
        assert row.auroc_noise == pytest.approx(roc_auc_score(familiar, scores))
        assert row.aupr_in_noise == pytest.approx(average_precision_score(familiar, scores))


def test_intervals_stand_beside_each_network(run, capsys):
    frame = table(run, "--measure", "ece", "auroc", "--resamples", "50")
    assert (frame["ece_low"] <= frame["ece"]).all()
    assert (frame["ece"] <= frame["ece_high"]).all()
    first = frame.iloc[0]
    assert f"{100 * first['ece']:.2f} [{100 * first['ece_low']:.2f}, {100 * first['ece_high']:.2f}]" in (
        capsys.readouterr().out
    )


def test_the_intervals_of_a_table_are_named(run, capsys):
    frame = table(run, "--measure", "accuracy", "ece", "mce", "fpr95", "--resamples", "20")
    assert frame["accuracy_interval"].unique().tolist() == ["Clopper-Pearson"]
    out = " ".join(capsys.readouterr().out.split())
    assert "(accuracy: Clopper-Pearson; ece: bias bound; mce: bootstrap; fpr95_noise: Clopper-Pearson," in out
    assert "Too narrow: mce. Bootstrap: 20 resamples." in out


@pytest.mark.parametrize(
    ("arguments", "convention", "side"),
    [
        ([], "odin", "keeps 95 % of the ID samples"),
        (["--ood-convention", "openood"], "openood", "finds 95 % of the OOD samples"),
    ],
)
def test_frame_and_table_name_the_side_of_fpr_and_aupr(run, arguments, convention, side, capsys):
    frame = table(run, "--measure", "fpr95", "aupr_out", "--score", "energy", *arguments)
    assert frame["ood_convention"].unique().tolist() == [convention]
    for row in frame.itertuples():
        (logits, _), unfamiliar = logits_of(run, row)
        sides = [logsumexp(x.astype(np.float64), axis=1) for x in (logits, unfamiliar)]
        assert row.fpr95_noise == ood.fpr_at_tpr(*sides, convention=convention)
        assert row.aupr_out_noise == ood.aupr_out(*sides, convention=convention)
    out = capsys.readouterr().out
    assert side in out
    assert out.count(f"({convention}'s convention)") == 2
    assert "ood_convention" not in out


def test_an_auroc_below_one_half_is_said_to_be_reversed(store, make_trial, capsys):
    trial = make_trial()
    store.begin(trial)
    store.write_outputs(trial, "test", np.eye(3)[[0, 1]], np.array([0, 1]))
    store.write_outputs(trial, "noise", 9 * np.eye(3)[[0, 1]], np.full(2, -1))
    store.finish(trial, "study", {"evaluation": "test", "ood": {"noise": "0"}, "features": []})
    table(store, "--measure", "auroc")
    assert REVERSED in capsys.readouterr().out


def test_students_are_seeds_of_one_recipe_only_if_their_teachers_are(store, make_trial, capsys):
    rng = np.random.default_rng(0)
    for seed, epochs in ((0, 5), (1, 5), (0, 10)):
        teacher = make_trial(gamma=1.0, seed=seed, epochs=epochs)
        student = replace(
            make_trial(seed=seed), loss="distillation", parents=(teacher.id,), teacher="resnet8v1 gamma=1"
        )
        for trial in (teacher, student):
            store.begin(trial)
            store.write_outputs(trial, "test", rng.normal(size=(30, 3)), rng.integers(0, 3, 30))
            store.finish(trial, "study", {"evaluation": "test", "ood": {}, "features": []})
    assert main([str(store.out), "--measure", "nll"]) == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if "distillation" in line]
    assert sorted(row[-3].strip() for row in rows) == ["1", "2"]


class TestRefusals:
    def test_a_directory_without_results(self, tmp_path, capsys):
        assert main([str(tmp_path)]) == 2
        assert f"no finished trials in {tmp_path}" in capsys.readouterr().err

    def test_damaged_logits_are_named(self, run, capsys):
        path = next(run.out.glob("trials/*/logits/test.npz"))
        path.write_bytes(b"PK\x03\x04 cut short")
        assert main([str(run.out)]) == 2
        assert str(path) in capsys.readouterr().err

    @pytest.mark.parametrize("arguments", [["--measure", "mse"], ["--bins", "0"], ["--score", "sharpness"]])
    def test_wrong_flags_are_named(self, run, arguments, capsys):
        with pytest.raises(SystemExit) as stop:
            main([str(run.out), *arguments])
        assert stop.value.code == 2
        assert arguments[0] in capsys.readouterr().err

    def test_an_equal_mass_of_another_convention(self, run, capsys):
        assert main([str(run.out), "--binning", "mass", "--convention", "netcal"]) == 2
        assert "Conventions are about equal-width bins" in capsys.readouterr().err
