"""The whole study once, and what it makes of wrong input."""

import csv
import json

import pandas as pd
import pytest

from benchmarks.decathlon.__main__ import main
from benchmarks.decathlon.plan import PAPER_ROWS
from kls.__main__ import main as make_report


class TestRefusals:
    def test_sets_that_are_not_prepared_are_listed_with_their_commands(self, data_dir, capsys):
        assert main(["--preset", "paper", "--data-dir", str(data_dir)]) == 2
        error = capsys.readouterr().err
        for name in {row.dataset for row in PAPER_ROWS}:
            assert f"{name} is not prepared. Run: python -m decathlon prepare {name}\n" in error

    def test_a_set_of_ones_own_that_is_not_prepared(self, data_dir, capsys):
        assert main(["--datasets", "mine", "--data-dir", str(data_dir)]) == 2
        assert "python -m decathlon prepare mine --folder DIR" in capsys.readouterr().err

    def test_a_gamma_too_small_for_a_set_is_refused_by_its_name(self, data_dir, tmp_path, capsys):
        code = main(["--datasets", "stripes", "--gamma", "0.3", "--data-dir", str(data_dir), "--out", str(tmp_path)])
        assert code == 2
        assert "stripes: `gamma` must be in (1/K, 1]" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    def test_a_batch_larger_than_a_data_set_is_refused(self, data_dir, capsys):
        assert main(["--datasets", "stripes", "--batch-size", "97", "--data-dir", str(data_dir)]) == 2
        assert (
            "`batch_size` must be at most 96, the training images of stripes. Received: 97" in capsys.readouterr().err
        )

    @pytest.mark.parametrize(
        "arguments", [["--epochs", "0"], ["--seeds", "-1"], ["--model", "resnet21"], ["--batch-size", "x"]]
    )
    def test_wrong_flags_are_named(self, arguments, capsys):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert arguments[0] in capsys.readouterr().err


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory, data_dir):
    """The whole program once, on two gammas and two seeds."""
    out = tmp_path_factory.mktemp("runs")
    arguments = ["--datasets", "stripes", "--gamma", "0.9", "--epochs", "2", "--seeds", "2", "--batch-size", "32"]
    return main([*arguments, "--data-dir", str(data_dir), "--out", str(out)]), out, arguments


class TestWholeRun:
    def test_tables_figure_and_results_are_written(self, finished_run):
        code, out, _ = finished_run
        assert code == 0
        with open(out / "results.csv") as file:
            rows = list(csv.DictReader(file))
        assert [(row["gamma"], row["seed"]) for row in rows] == [
            *(("1.0", "0"), ("1.0", "1"), ("0.9", "0"), ("0.9", "1")),
        ]
        assert {path.name for path in (out / "tables").iterdir()} == {
            f"{name}.{suffix}"
            for name in ("accuracy", "best", "calibration", "comparison")
            for suffix in ("md", "csv", "tex")
        }
        assert (out / "verdict.txt").read_text().startswith("Should you smooth the labels? ")
        assert (out / "figures" / "differences.png").read_bytes().startswith(b"\x89PNG")

    def test_the_table_is_the_mean_of_the_records(self, finished_run):
        _, out, _ = finished_run
        records = pd.DataFrame(json.loads(path.read_text()) for path in out.glob("trials/*/record.json"))
        table = pd.read_csv(out / "tables" / "accuracy.csv")
        for row in table.itertuples():
            cell = records[records["gamma"] == row.gamma]["accuracy_best"]
            assert (row.n, row.mean, row.std) == (2, pytest.approx(cell.mean()), pytest.approx(cell.std()))

    def test_a_dry_run_trains_nothing_and_knows_what_is_finished(self, finished_run, data_dir, capsys):
        _, out, arguments = finished_run
        assert main([*arguments, "--data-dir", str(data_dir), "--out", str(out), "--dry-run"]) == 0
        text = capsys.readouterr().out
        assert text.count("finished") == 4
        assert "About 0:00 of training" in text
        assert "192" in text


def test_list_shows_the_paper_and_what_is_prepared(data_dir, capsys):
    assert main(["--list", "--data-dir", str(data_dir)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| imagenet12") for line in lines) == 2
    assert any("daimlerpedcls" in line and "1.0 ... 0.6" in line for line in lines)
    assert any("glyphs (synthetic)" in line for line in lines)


def test_a_report_can_be_made_of_it(finished_run, tmp_path):
    assert make_report(["report", str(finished_run[1]), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text("utf-8")
    assert all(f"<h3>{part}</h3>" in page for part in ("Verdict", "Reliability", "Classes", "Recipe", "Model card"))
    assert page.count("<article") == 1
