import keras
import numpy as np
import pytest

import kls
from kls.__main__ import main


@pytest.fixture(scope="module")
def saved(tmp_path_factory, data_dir):
    """A file of a small network of the images of `stripes`."""
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [keras.Input((8, 8, 1)), kls.layers.Pixels(), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")]
    )
    path = tmp_path_factory.mktemp("commands") / "model.keras"
    network.save(path)
    return path


@pytest.fixture
def run(saved, data_dir):
    """Returns a function that runs a command on the network and the prepared data."""

    def give(command, *arguments, model=saved):
        return main([command, str(model), *map(str, arguments), "--data-dir", str(data_dir)])

    return give


class TestGuard:
    def test_writes_what_the_function_makes(self, run, saved, stripes, tmp_path, capsys):
        out = tmp_path / "deep" / "guarded.keras"
        arguments = ("--calibration", "stripes", "--training-data", "stripes", "--ood", "noise", "--out", out)
        assert run("guard", *arguments, "--score", "react", "--tpr", 0.8, "--scaling", "none") == 0
        model, noise = keras.models.load_model(saved), kls.study.data.ood_of(["noise"], stripes, out.parent)["noise"]
        images = kls.study.data.conformed(noise.split(noise.evaluation)[0], (8, 8, 1))
        expected = kls.guard(
            model,
            stripes.split("test"),
            None,
            "react",
            0.8,
            training_data=stripes.split("train"),
            ood={"noise": images},
        )
        written = keras.models.load_model(out)
        assert written.report == expected.report
        assert capsys.readouterr().out == f"{expected.report}\nWritten: {out}\n"
        x = stripes.split("test")[0]
        np.testing.assert_array_equal(written.predict(x, verbose=0)["score"], expected.predict(x, verbose=0)["score"])

    @pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exported from TensorFlow")
    def test_exports_beside_the_file(self, run, tmp_path, capsys):
        out = tmp_path / "guarded.keras"
        assert run("guard", "--calibration", "stripes", "--out", out, "--export", "tf_saved_model") == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["guarded", "guarded.keras"]
        assert capsys.readouterr().out.endswith(f"Written: {out}, {tmp_path / 'guarded'}\n")

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--calibration", "stripes", "--score", "knn"], "`training_data` must be given for the score KNN(k=50)"),
            (["--calibration", "nothing"], "`data` must be the name of a prepared dataset, or a folder"),
            (["--calibration", "stripes", "--tpr", "2"], "`tpr` must be a number in (0, 1]"),
            (["--calibration", "stripes", "--out", "guarded.h5"], "--out must end in .keras. Received: guarded.h5"),
            (["--calibration", "stripes", "--ood", "nowhere"], "nowhere"),
        ],
    )
    def test_what_cannot_be_done_is_one_sentence(self, run, arguments, says, monkeypatch, tmp_path, capsys):
        monkeypatch.chdir(tmp_path)
        assert run("guard", *arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert says in error
        assert list(tmp_path.iterdir()) == []

    def test_a_format_whose_packages_are_absent_before_data_are_read(self, run, monkeypatch, tmp_path, capsys):
        monkeypatch.setattr("kls.guarding.export.find_spec", lambda name: None)
        monkeypatch.chdir(tmp_path)
        assert run("guard", "--calibration", "nothing", "--export", "tf_saved_model") == 2
        assert "needs packages that are not installed" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []


class TestEvaluate:
    def test_prints_what_the_function_finds(self, run, saved, stripes, capsys):
        assert run("evaluate", "stripes", "--scaling", "vector", "--resamples", 20) == 0
        found = kls.evaluate(
            keras.models.load_model(saved), stripes.split("test"), scaling="vector", resamples=20, scores=["msp"]
        )
        assert capsys.readouterr().out == f"{found.summary}\n\n{found.to_markdown()}\n"

    def test_scores_are_fitted_to_the_training_images(self, run, saved, stripes, capsys):
        assert run("evaluate", "stripes", "--ood", "noise", "--scores", "react", "energy") == 0
        assert "| react" in capsys.readouterr().out

    def test_a_damaged_file_is_one_sentence(self, run, tmp_path, capsys):
        path = tmp_path / "model.keras"
        path.write_bytes(b"nothing")
        assert run("evaluate", "stripes", model=path) == 2
        assert capsys.readouterr().err.startswith(f"error: {path} cannot be loaded: ")

    def test_images_of_another_shape_are_refused(self, run, prepare_random, data_dir, capsys):
        prepare_random("coloured", data_dir, shape=(8, 8, 3))
        assert run("evaluate", "coloured") == 2
        assert "`data` must hold images of shape (None, 8, 8, 1)" in capsys.readouterr().err

    def test_of_a_guarded_model_the_classifier_is_judged(self, run, tmp_path, capsys):
        out = tmp_path / "guarded.keras"
        assert run("guard", "--calibration", "stripes", "--out", out) == 0
        capsys.readouterr()
        assert run("evaluate", "stripes", model=out) == run("evaluate", "stripes") == 0
        printed = capsys.readouterr().out
        assert printed[: len(printed) // 2] == printed[len(printed) // 2 :]
