import json
import shutil

import pytest

from kls.__main__ import main
from kls.study.manifest import Manifest, write_manifest

from ...pages.helpers import parsed

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def run(store, finish_methods, stripes):
    """The directory of a run of two methods and seeds, that was asked for all but one of its trials."""
    records = finish_methods()
    asked = {record["trial"]: record["method"] for record in records[:3]}
    manifest = Manifest("study", {**asked, "0" * 12: "gamma=0.5"}, "kls study 'a b'", {"stripes": str(stripes.path)})
    write_manifest(store.out, manifest)
    return store.out


def test_the_report_of_a_run_is_of_what_was_asked_for(run, capsys):
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"Report: {run / 'report.html'}\n"
    found = parsed(run / "report.html")
    assert "Trained networks: 3. Methods are compared by equal seeds, on the same images." in found.texts("p")
    assert "Not finished, or damaged: 1 of 4 trials that were asked for." in found.texts("p")
    assert "kls study 'a b'" in found.texts("pre")
    assert len(found.attributes("src")) > 12


def test_an_older_run_is_shown_with_all_its_trials(run, tmp_path, data_dir):
    (run / "study.json").unlink()
    assert main(["report", str(run), "--out", str(tmp_path / "mine.html"), "--data-dir", str(data_dir)]) == 0
    found = parsed(tmp_path / "mine.html")
    assert "Trained networks: 4. Methods are compared by equal seeds, on the same images." in found.texts("p")
    assert (tmp_path / "mine" / "comparison.csv").is_file()
    assert not (run / "report.html").exists()
    assert len(found.attributes("src")) > 12


def test_a_damaged_trial_is_left_out_and_named(run, capsys):
    path = next(run.glob("trials/*/record.json"))
    path.write_text(path.read_text()[:-5])
    assert main(["report", str(run)]) == 1
    assert capsys.readouterr().err.startswith(f"left out: {path} is damaged (")
    assert any(text.startswith(f"Left out: {path} is damaged") for text in parsed(run / "report.html").texts("p"))


def test_what_is_no_run_is_one_sentence(tmp_path, capsys):
    for path in (tmp_path / "gone", tmp_path):
        assert main(["report", str(path)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err == f"error: {path} holds no finished trials to report. It must be the --out of a study.\n"


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda run: (run / "study.json").write_text("{"), "study.json is damaged ("),
        (lambda run: (run / "study.json").write_text(json.dumps([])), "study.json is damaged ("),
        (lambda run: shutil.rmtree(run / "trials"), "holds no finished trials to report"),
        (lambda run: (run / "report").write_text("in the way"), "report"),
    ],
)
def test_what_keeps_a_report_from_being_made_is_one_sentence(run, capsys, damage, expected):
    damage(run)
    assert main(["report", str(run)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert expected in err
    assert len(err.splitlines()) == 1
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("name", ["page.txt", "page", ""])
def test_a_page_that_is_no_html_file_is_refused(run, capsys, name):
    assert main(["report", str(run), "--out", name]) == 2
    assert "error: `path` must" in capsys.readouterr().err


def test_a_run_must_be_named(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["report"])
    assert stop.value.code == 2
    assert "the following arguments are required: RUN" in capsys.readouterr().err
