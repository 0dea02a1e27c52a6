import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.tables.__main__ import main
from kls import calibration, ood
from kls.study.methods import CrossEntropy, Distillation
from kls.study.report.tables import REVERSED


@pytest.fixture
def run(store, make_trial, finish):
    """Two seeds of one gamma and one of another, with logits from a generator in place of networks."""
    finish(*(make_trial(gamma=gamma, seed=seed) for gamma, seed in ((1.0, 0), (1.0, 1), (0.9, 0))), ood=["noise"])
    return store


def table(store, *arguments):
    assert main([str(store.out), *arguments]) == 0
    return pd.read_csv(store.out / "tables" / "metrics.csv")


def logits_of(store, row):
    class Named:
        id = row.trial

    return store.logits(Named, "test"), store.logits(Named, "noise")[0]


def test_every_metric_is_computed_from_the_logits_alone(run, capsys):
    frame = table(run, "--metric", *calibration.METRICS)
    for row in frame.itertuples():
        (logits, labels), _ = logits_of(run, row)
        for name, function in calibration.METRICS.items():
            assert getattr(row, name) == pytest.approx(function(labels, logits, from_logits=True), abs=1e-12)
    out = capsys.readouterr().out
    cells = frame[frame["gamma"] == 1.0]["nll"]
    assert f"{cells.mean():.4f} ± {cells.std():.4f}" in out
    assert {path.suffix for path in (run.out / "tables").iterdir()} == {".md", ".csv", ".tex"}


def test_bins_reach_the_metrics_that_have_bins(run, capsys):
    frame = table(run, "--metric", "ece", "nll", "--bins", "4", "--binning", "mass")
    for row in frame.itertuples():
        (logits, labels), _ = logits_of(run, row)
        expected = calibration.expected_calibration_error(labels, logits, 4, "mass", from_logits=True)
        assert row.ece == pytest.approx(expected, abs=1e-12)
    assert "ece: bins 4, binning mass, convention guo." in capsys.readouterr().out


def test_ood_metrics_by_another_score(run):
    frame = table(run, "--metric", "auroc", "aupr_in", "--score", "energy")
    for row in frame.itertuples():
        (logits, _), ood_logits = logits_of(run, row)
        scores = np.concatenate([logsumexp(x.astype(np.float64), axis=1) for x in (logits, ood_logits)])
        is_id = np.arange(100) < 60
        assert row.auroc_noise == pytest.approx(roc_auc_score(is_id, scores))
        assert row.aupr_in_noise == pytest.approx(average_precision_score(is_id, scores))


def test_intervals_stand_beside_each_network(run, capsys):
    frame = table(run, "--metric", "ece", "auroc", "--resamples", "50")
    assert (frame["ece_low"] <= frame["ece"]).all()
    assert (frame["ece"] <= frame["ece_high"]).all()
    first = frame.iloc[0]
    assert f"{100 * first['ece']:.2f} [{100 * first['ece_low']:.2f}, {100 * first['ece_high']:.2f}]" in (
        capsys.readouterr().out
    )


def test_the_intervals_of_a_table_are_named(run, capsys):
    frame = table(run, "--metric", "accuracy", "ece", "mce", "fpr95", "--resamples", "20")
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
    frame = table(run, "--metric", "fpr95", "aupr_out", "--score", "energy", *arguments)
    assert frame["ood_convention"].unique().tolist() == [convention]
    for row in frame.itertuples():
        (logits, _), ood_logits = logits_of(run, row)
        sides = [logsumexp(x.astype(np.float64), axis=1) for x in (logits, ood_logits)]
        assert row.fpr95_noise == ood.fpr_at_tpr(*sides, convention=convention)
        assert row.aupr_out_noise == ood.aupr_out(*sides, convention=convention)
    out = capsys.readouterr().out
    assert side in out
    assert out.count(f"({convention}'s convention)") == 2
    assert "ood_convention" not in out


def test_an_auroc_below_one_half_is_said_to_be_reversed(store, make_trial, write_results, capsys):
    trial = make_trial()
    record = write_results(store, trial, ood=["noise"])
    store.write_outputs(trial, "noise", 99 * np.eye(3)[[0, 1]], np.full(2, -1))
    store.finish(trial, "study", record)
    table(store, "--metric", "auroc")
    assert REVERSED in capsys.readouterr().out


def test_students_are_seeds_of_one_recipe_only_if_their_teachers_are(store, make_trial, finish, capsys):
    for seed, epochs in ((0, 5), (1, 5), (0, 10)):
        teacher = make_trial(gamma=1.0, seed=seed, epochs=epochs)
        student = make_trial(seed=seed, method=Distillation(CrossEntropy(), "resnet8v1"), parents=(teacher.id,))
        finish(teacher, student)
    assert main([str(store.out), "--metric", "nll"]) == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if "distillation" in line]
    assert sorted(row[-3].strip() for row in rows) == ["1", "2"]


class TestRefusals:
    def test_a_directory_without_results(self, tmp_path, capsys):
        assert main([str(tmp_path)]) == 2
        assert f"no finished trials in {tmp_path}" in capsys.readouterr().err

    @pytest.mark.parametrize("name", ["logits/test.npz", "logits/noise.npz", "history.csv", "record.json"])
    def test_a_damaged_trial_is_left_out_and_named(self, run, name, capsys):
        path = next(run.out.glob(f"trials/*/{name}"))
        path.write_bytes(path.read_bytes()[:-20])
        assert main([str(run.out)]) == 1
        out, err = capsys.readouterr()
        assert err.startswith(f"left out: {path} is damaged")
        assert len(err.splitlines()) == 1
        assert "nan" not in out
        assert len(pd.read_csv(run.out / "tables" / "metrics.csv")) == 2

    def test_where_all_are_left_out_there_is_no_table(self, run, capsys):
        for path in run.out.glob("trials/*/record.json"):
            path.write_text("{}")
        assert main([str(run.out)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.splitlines()[-1] == f"error: There are no finished trials in {run.out}."
        assert len(err.splitlines()) == 4

    def test_ood_data_that_no_trial_has(self, store, make_trial, finish, capsys):
        finish(make_trial())
        assert main([str(store.out), "--metric", "ece", "auroc", "fpr95"]) == 2
        assert f"There are no OOD data in {store.out} for auroc, fpr95" in capsys.readouterr().err

    def test_files_that_cannot_be_written_do_not_hide_the_table(self, run, capsys):
        (run.out / "tables").write_text("in the way")
        assert main([str(run.out)]) == 2
        out, err = capsys.readouterr()
        assert "| stripes" in out
        assert str(run.out / "tables") in err

    @pytest.mark.parametrize("name", ["../../x", "a/b", "", ".hidden", "..", "/x", "a\nb"])
    def test_a_name_that_leaves_the_directory(self, run, name, capsys):
        with pytest.raises(SystemExit) as stop:
            main([str(run.out), "--name", name])
        assert stop.value.code == 2
        assert "--name: must consist of letters, digits" in capsys.readouterr().err
        assert not (run.out / "tables").exists()

    @pytest.mark.parametrize("arguments", [["--metric", "mse"], ["--bins", "0"], ["--score", "sharpness"]])
    def test_wrong_flags_are_named(self, run, arguments, capsys):
        with pytest.raises(SystemExit) as stop:
            main([str(run.out), *arguments])
        assert stop.value.code == 2
        assert arguments[0] in capsys.readouterr().err

    def test_an_equal_mass_of_another_convention(self, run, capsys):
        assert main([str(run.out), "--binning", "mass", "--convention", "netcal"]) == 2
        assert "Conventions are about equal-width bins" in capsys.readouterr().err
