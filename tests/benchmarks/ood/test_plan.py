"""The trials of the study, as the paper, the issue and the code of outlier exposure have them."""

from dataclasses import replace
from itertools import product

import pytest

import decathlon
from benchmarks.ood.__main__ import _parser
from benchmarks.ood.plan import PAPER, QUICK, list_rows, make_plan
from kls.study.methods import Distillation, LabelSmoothing, OutlierExposure
from kls.study.plan import PlanError

PAPER_SETS = ("svhn_cropped", "cifar10", "cifar100_full")
OTHER_SETS = ("mnist", "fashion_mnist", "lsun", "tiny_imagenet")
PAPER_ALPHAS = (0.0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.9)


@pytest.fixture(scope="module")
def prepared_dir(tmp_path_factory, prepare_random):
    """Small sets under the paper's names, `own` of three classes and `dots` and `hues` beside it."""
    directory = tmp_path_factory.mktemp("data")
    for name in PAPER_SETS:
        classes = 100 if name == "cifar100_full" else 10
        prepare_random(name, directory, train=130, test=100, shape=(8, 8, 3), classes=classes)
    for name in OTHER_SETS:
        prepare_random(name, directory, shape=(8, 8, 1 if "mnist" in name else 3))
    prepare_random("own", directory, train=96, classes=3)
    prepare_random("dots", directory)
    prepare_random("hues", directory, shape=(8, 8, 3))
    return directory


def plan_of(prepared_dir, *arguments):
    options = _parser().parse_args([*arguments, "--data-dir", str(prepared_dir)])
    return make_plan(options)


def own(prepared_dir, *arguments):
    """Returns the trials on `own`, exposed to `dots` unless told otherwise."""
    given = ("--datasets", "own", "--ood", "hues", "--batch-size", "32", *arguments)
    return plan_of(prepared_dir, *given, *(() if "--outliers" in arguments else ("--outliers", "dots")))[0].trials


def sweep(trials):
    return [trial for trial in trials if isinstance(trial.method, LabelSmoothing)]


def exposed(trials):
    return [trial for trial in trials if isinstance(trial.method, OutlierExposure)]


def students(trials):
    return [trial for trial in trials if isinstance(trial.method, Distillation)]


def by_id(trials):
    return {trial.id: trial for trial in trials}


def teacher_of(trial, trials):
    (parent,) = trial.parents
    return by_id(trials)[parent]


@pytest.fixture(scope="module")
def paper(prepared_dir):
    return plan_of(prepared_dir, "--preset", "paper")


@pytest.fixture(params=PAPER_SETS)
def of_a_set(request, paper):
    """The name of an ID set and its trials."""
    return request.param, [trial for trial in paper[0].trials if trial.dataset == request.param]


class TestPaper:
    def test_trials_per_id_set(self, paper):
        counts = {name: sum(trial.dataset == name for trial in paper[0].trials) for name in PAPER_SETS}
        # 7 of the sweep, the baseline's student, exposed networks and their students, and DenseNet
        assert counts == {"svhn_cropped": 7 + 1 + 2 + 1, "cifar10": 7 + 1 + 3 * 2 + 1, "cifar100_full": 7 + 1 + 2 + 1}

    def test_the_densenet_alone_learns_from_the_first_exposed(self, of_a_set):
        _, trials = of_a_set
        assert {trial.model for trial in trials} == {"wrn40-2", "densenet40-12"}
        (densenet,) = (trial for trial in trials if trial.model == "densenet40-12")
        teacher = teacher_of(densenet, trials)
        assert (teacher.model, teacher.method.outliers) == ("wrn40-2", ("tiny_imagenet",))

    def test_protocol_of_cifar(self, paper):
        for trial in (trial for trial in paper[0].trials if "cifar" in trial.dataset):
            assert (trial.optimizer, trial.schedule, trial.batch_size) == ("nesterov", "cosine", 128)
            assert (trial.shift * 32, trial.flip, trial.fill, trial.normalisation) == (4, True, "zero", "mean")
            tuned = isinstance(trial.method, OutlierExposure)
            assert (trial.epochs, trial.learning_rate) == ((10, 0.001) if tuned else (150, 0.1))

    def test_protocol_of_svhn(self, paper):
        for trial in (trial for trial in paper[0].trials if trial.dataset == "svhn_cropped"):
            assert (trial.optimizer, trial.schedule, trial.batch_size) == ("nesterov", "cosine", 128)
            assert (trial.shift, trial.flip, trial.normalisation) == (0, False, "scale")
            tuned = isinstance(trial.method, OutlierExposure)
            assert (trial.epochs, trial.learning_rate) == ((5, 0.0001) if tuned else (20, 0.01))

    def test_smoothing_takes_probability_from_the_true_class(self, of_a_set):
        name, trials = of_a_set
        classes = 100 if name == "cifar100_full" else 10
        expected = [1 - alpha * (classes - 1) / classes for alpha in PAPER_ALPHAS]
        assert [trial.method.gamma for trial in sweep(trials)] == pytest.approx(expected, abs=1e-12)
        assert sweep(trials)[0].method.gamma == 1.0
        assert {trial.method.gamma for trial in (*exposed(trials), *students(trials))} == {1.0}

    def test_outliers(self, paper, prepared_dir):
        exposures = {name: [] for name in PAPER_SETS}
        for trial in exposed(paper[0].trials):
            exposures[trial.dataset].append(trial.method.outliers)
            method = trial.method
            fingerprints = tuple(
                (name, decathlon.open(name, data_dir=prepared_dir).fingerprint) for name in method.outliers
            )
            assert trial.others == fingerprints
            assert (method.outlier_batch_size, method.weight) == (256, 0.5)
        assert exposures == {
            "svhn_cropped": [("tiny_imagenet",)],
            "cifar10": [("tiny_imagenet",), ("mnist",), ("mnist", "tiny_imagenet")],
            "cifar100_full": [("tiny_imagenet",)],
        }
        for trial in (*sweep(paper[0].trials), *students(paper[0].trials)):
            assert trial.others == ()

    def test_svhn_is_held_against_cifar10_and_the_others_against_svhn(self, paper):
        common = {"mnist", "fashion_mnist", "lsun", "tiny_imagenet"}
        assert {name: set(others) for name, others in paper[1].ood.items()} == {
            "svhn_cropped": common | {"cifar10"},
            "cifar10": common | {"svhn_cropped"},
            "cifar100_full": common | {"svhn_cropped"},
        }

    def test_exposed_networks_go_on_from_the_baseline(self, of_a_set):
        _, trials = of_a_set
        (baseline,) = (trial for trial in sweep(trials) if trial.method.gamma == 1.0)
        for trial in exposed(trials):
            assert trial.parents == (baseline.id,)
            assert trial.model == baseline.model

    def test_students_learn_from_the_teachers_output_alone(self, of_a_set):
        _, trials = of_a_set
        for trial in students(trials):
            assert (trial.method.weight, trial.method.temperature) == (1.0, 1.0)
        taught = [teacher_of(trial, trials) for trial in students(trials) if trial.model == "wrn40-2"]
        assert [trial.id for trial in taught] == [trial.id for trial in (sweep(trials)[0], *exposed(trials))]

    def test_a_student_is_trained_as_the_baseline_otherwise(self, of_a_set):
        _, trials = of_a_set
        baseline = sweep(trials)[0]
        for trial in students(trials):
            assert replace(trial, model=baseline.model, method=baseline.method, parents=()) == baseline

    def test_what_a_student_is_a_student_of(self, paper):
        found = {(trial.dataset, trial.model, trial.method.label) for trial in students(paper[0].trials)}
        assert ("cifar10", "wrn40-2", "student of wrn40-2 gamma=1") in found
        assert ("cifar10", "densenet40-12", "student of wrn40-2 exposed to tiny_imagenet") in found
        assert ("cifar10", "wrn40-2", "student of wrn40-2 exposed to mnist+tiny_imagenet") in found

    def test_a_set_of_ones_own_has_the_protocol_of_cifar(self, prepared_dir):
        arguments = ("--preset", "paper", "--datasets", "own", "--batch-size", "32")
        trials = plan_of(prepared_dir, *arguments)[0].trials
        assert len(trials) == 11
        baseline = trials[0]
        assert (baseline.model, baseline.epochs, baseline.learning_rate, baseline.flip) == ("wrn40-2", 150, 0.1, True)

    def test_the_rows(self):
        assert [row.dataset for row in PAPER] == list(PAPER_SETS)


@pytest.fixture(scope="module")
def quick(data_dir):
    return plan_of(data_dir)


class TestQuick:
    def test_is_digits_on_small_networks(self, quick):
        trials = quick[0].trials
        assert {trial.dataset for trial in trials} == {"digits"}
        assert [trial.method.gamma for trial in sweep(trials)] == pytest.approx([1.0, 0.91, 0.55])
        assert [trial.method.outliers for trial in exposed(trials)] == [("photos",), ("noise",), ("noise", "photos")]
        assert [trial.model for trial in students(trials)] == ["wrn10-1"] * 4 + ["densenet10-12"]
        assert len(trials) == 3 + 3 + 5
        assert {name: list(of) for name, of in quick[1].ood.items()} == {"digits": ["glyphs", "photos", "noise"]}

    def test_protocol(self, quick):
        for trial in quick[0].trials:
            assert (trial.optimizer, trial.schedule, trial.batch_size) == ("nesterov", "cosine", 128)
            assert (trial.shift, trial.flip, trial.normalisation) == (0.125, False, "mean")  # 7 is no 7 in the mirror
            tuned = isinstance(trial.method, OutlierExposure)
            assert (trial.epochs, trial.learning_rate) == ((5, 0.01) if tuned else (20, 0.1))

    def test_needs_no_download(self):
        assert {decathlon.CATALOG[name].source for name in QUICK.data()} == {"bundled"}


class TestShape:
    @pytest.mark.parametrize("seeds", ["1", "2", "3"])
    def test_shared_networks_are_trained_once_and_parents_first(self, prepared_dir, seeds):
        trials = own(prepared_dir, "--outliers", "dots", "hues", "dots+hues", "--ood", "mnist", "--seeds", seeds)
        assert len(by_id(trials)) == len(trials) == int(seeds) * (3 + 1 + 6 + 1)
        baselines = [trial for trial in sweep(trials) if trial.method.gamma == 1.0]
        assert [trial.seed for trial in baselines] == list(range(int(seeds)))
        place = {trial.id: number for number, trial in enumerate(trials)}
        for trial in trials:
            for parent in trial.parents:
                assert place[parent] < place[trial.id]

    def test_a_seed_is_a_family_of_its_own(self, prepared_dir):
        trials = own(prepared_dir, "--seeds", "2")
        for trial in trials:
            assert all(by_id(trials)[parent].seed == trial.seed for parent in trial.parents)
        alike = [[(trial.method.label, trial.model) for trial in trials if trial.seed == seed] for seed in (0, 1)]
        assert alike[0] == alike[1]

    def test_more_seeds_keep_the_trials_of_fewer(self, prepared_dir):
        assert set(by_id(own(prepared_dir))) < set(by_id(own(prepared_dir, "--seeds", "2")))

    def test_other_outliers_of_the_same_name_make_another_trial(self, prepared_dir, tmp_path, prepare_random):
        for name in ("own", "hues"):
            (tmp_path / f"{name}-8").symlink_to(prepared_dir / f"{name}-8")
        prepare_random("dots", tmp_path, train=20)
        here, there = (by_id(own(directory)) for directory in (prepared_dir, tmp_path))
        renewed = {trial.method.label for key, trial in there.items() if key not in here}
        assert renewed == {
            "exposed to dots",
            "student of wrn10-1 exposed to dots",
        }


class TestOptions:
    @pytest.mark.parametrize(
        ("alphas", "expected"),
        [
            (["0.1"], [1.0, 1 - 0.2 / 3]),
            (["0.9", "0", "0.3"], [1.0, 0.8, 0.4]),
            (["0.3", "0.3"], [1.0, 0.8]),
            ([], [1.0]),
            (["0"], [1.0]),
        ],
    )
    def test_alpha(self, prepared_dir, alphas, expected):
        trials = own(prepared_dir, "--alpha", *alphas)
        assert [trial.method.gamma for trial in sweep(trials)] == pytest.approx(expected, abs=1e-12)
        assert len(exposed(trials)) == 1

    def test_gamma(self, prepared_dir):
        assert [trial.method.gamma for trial in sweep(own(prepared_dir, "--gamma", "0.7", "0.9"))] == [1.0, 0.9, 0.7]
        assert [trial.method.gamma for trial in sweep(own(prepared_dir, "--gamma", "1"))] == [1.0]

    def test_alpha_and_gamma_name_the_same_trial(self, prepared_dir):
        assert set(by_id(own(prepared_dir, "--alpha", "0.75"))) == set(by_id(own(prepared_dir, "--gamma", "0.5")))

    def test_alpha_or_gamma(self, prepared_dir, capsys):
        with pytest.raises(SystemExit):
            own(prepared_dir, "--alpha", "0.1", "--gamma", "0.9")
        assert "not allowed with" in capsys.readouterr().err

    def test_outliers_together_and_alone(self, prepared_dir):
        trials = own(prepared_dir, "--outliers", "dots+mnist", "dots", "--ood", "hues")
        assert [trial.method.outliers for trial in exposed(trials)] == [("dots", "mnist"), ("dots",)]
        (other,) = (trial for trial in students(trials) if trial.model == "densenet10-12")
        assert teacher_of(other, trials).method.outliers == ("dots", "mnist")

    def test_epochs(self, prepared_dir):
        trials = own(prepared_dir, "--epochs", "7", "--tuning-epochs", "3")
        assert {(trial.method.name, trial.epochs) for trial in trials} == {
            ("label_smoothing", 7),
            ("outlier_exposure", 3),
            ("distillation", 7),
        }

    def test_networks(self, prepared_dir):
        trials = own(prepared_dir, "--model", "resnet8v1", "--other-student", "wrn10-1")
        assert {trial.model for trial in (*sweep(trials), *exposed(trials))} == {"resnet8v1"}
        assert [trial.model for trial in students(trials)] == ["resnet8v1", "resnet8v1", "wrn10-1"]

    def test_another_student_like_the_first_is_trained_once(self, prepared_dir):
        trials = own(prepared_dir, "--other-student", "wrn10-1")
        assert [trial.model for trial in students(trials)] == ["wrn10-1"] * 2

    @pytest.mark.parametrize(("preset", "name"), list(product(("quick", "paper"), ("own", "cifar10"))))
    def test_ood_sets(self, prepared_dir, preset, name):
        arguments = ("--preset", preset, "--datasets", name, "--outliers", "dots", "--batch-size", "96")
        _, sources = plan_of(prepared_dir, *arguments, "--ood", "hues", "mnist")
        assert {name: list(of) for name, of in sources.ood.items()} == {name: ["hues", "mnist"]}

    def test_batch_and_precision(self, prepared_dir):
        trials = own(prepared_dir, "--batch-size", "48", "--precision", "mixed_bfloat16")
        assert {(trial.batch_size, trial.precision) for trial in trials} == {(48, "mixed_bfloat16")}
        assert {trial.method.outlier_batch_size for trial in exposed(trials)} == {256}

    def test_a_data_set_named_twice_is_run_once(self, prepared_dir):
        trials = own(prepared_dir)
        assert {
            trial.id
            for trial in plan_of(
                prepared_dir, "--datasets", "own", "own", "--ood", "hues", "--outliers", "dots", "--batch-size", "32"
            )[0].trials
        } == {trial.id for trial in trials}


class TestRefusals:
    @pytest.mark.parametrize("alpha", ["1", "2", "-0.1", "nan"])
    def test_alpha_out_of_range(self, prepared_dir, alpha):
        with pytest.raises(PlanError, match=rf"--alpha must be in \[0, 1\)\. Received: 0\.1 {float(alpha)}"):
            own(prepared_dir, "--alpha", "0.1", alpha)

    @pytest.mark.parametrize("gamma", ["0.33", "0", "1.1", "nan"])
    def test_gamma_out_of_range_names_the_set(self, prepared_dir, gamma):
        with pytest.raises(PlanError, match=rf"own: `gamma` must be in \(1/K, 1\].*gamma={float(gamma)}"):
            own(prepared_dir, "--gamma", gamma)

    def test_all_unprepared_data_sets_are_listed_with_their_commands(self, tmp_path):
        with pytest.raises(PlanError) as error:
            plan_of(tmp_path, "--preset", "paper")
        for name in (*PAPER_SETS, *OTHER_SETS):
            assert str(error.value).count(f"{name} is not prepared. Run: python -m decathlon prepare {name}") == 1

    @pytest.mark.parametrize("arguments", [("--ood", "absent"), ("--outliers", "dots", "dots+absent")])
    def test_a_set_of_ones_own_that_is_not_prepared(self, prepared_dir, arguments):
        with pytest.raises(
            PlanError, match=r"absent is not prepared\. Run: python -m decathlon prepare absent --folder"
        ):
            own(prepared_dir, *arguments)

    @pytest.mark.parametrize("outliers", ["own", "dots+own"])
    def test_id_images_are_no_outliers(self, prepared_dir, outliers):
        with pytest.raises(PlanError, match="--outliers own: its images are not OOD to a network of own"):
            own(prepared_dir, "--outliers", outliers)

    @pytest.mark.parametrize(
        "arguments",
        [
            ("--tuning-epochs", "0"),
            ("--other-student", "resnet9"),
            ("--alpha", "x"),
            ("--gamma",),
            ("--outliers",),
            ("--scores", "msq"),
        ],
    )
    def test_wrong_flags_are_named(self, arguments, capsys):
        with pytest.raises(SystemExit) as stop:
            _parser().parse_args([*arguments])
        assert stop.value.code == 2
        assert arguments[0] in capsys.readouterr().err


def test_the_list_shows_presets_and_what_is_missing(prepared_dir, tmp_path):
    lines = {line.split("|")[1].strip(): line for line in list_rows(prepared_dir).splitlines()[2:]}
    assert list(lines) == ["digits", *PAPER_SETS]
    assert "tiny_imagenet, mnist, mnist+tiny_imagenet" in lines["cifar10"]
    assert "0.001 0.01 0.1 0.3 0.5 0.9" in lines["cifar100_full"]
    assert {name: line.split("|")[-2].strip() for name, line in lines.items()} == dict.fromkeys(lines, "all")
    (line,) = (line for line in list_rows(tmp_path).splitlines() if line.startswith("| cifar10 "))
    assert "missing: cifar10 tiny_imagenet mnist fashion_mnist svhn_cropped lsun" in line


def test_a_preset_does_not_hold_a_data_set_against_itself(prepared_dir):
    plan, sources = plan_of(prepared_dir, "--datasets", "photos", "--batch-size", "32")
    assert list(sources.ood["photos"]) == ["glyphs", "noise"]
    assert [trial.method.outliers for trial in exposed(plan.trials)] == [("noise",)]
