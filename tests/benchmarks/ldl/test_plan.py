"""The trials of the study, as the paper has them."""

from collections import Counter

import numpy as np
import pytest

from benchmarks.ldl.__main__ import _parser
from benchmarks.ldl.plan import CIFAR_RESNETS, NINE, PAPER, QUICK, list_settings, make_plan, method_named
from benchmarks.published import published
from kls.study.methods import Distillation, OverfittingRatio
from kls.study.plan import PlanError


@pytest.fixture(scope="module")
def prepared_dir(tmp_path_factory, prepare_random):
    """Small sets under the paper's names, and `own` of three classes."""
    directory = tmp_path_factory.mktemp("data")
    for name, classes in (("cifar10", 10), ("stl10", 10), ("cifar100_full", 100), ("imagenet_resized", 20)):
        prepare_random(name, directory, train=130, test=100, shape=(8, 8, 3), classes=classes)
    prepare_random("own", directory, train=96, classes=3)
    return directory


def plan_of(prepared_dir, *arguments):
    return make_plan(_parser().parse_args([*arguments, "--data-dir", str(prepared_dir)]))[0]


def own(prepared_dir, *arguments):
    """Returns `{title of the method: trial}` of the student resnet8v1 on `own`."""
    plan = plan_of(prepared_dir, "--datasets", "own", *arguments)
    return {trial.method.title: trial for trial in plan.trials if trial.model == "resnet8v1"}


class TestTheNineConfigurations:
    def test_are_what_the_quick_preset_trains(self, prepared_dir):
        trials = plan_of(prepared_dir).trials
        assert [trial.method.title for trial in trials if trial.model == "resnet8v1"] == list(NINE)
        assert [trial.model for trial in trials if trial.method.title == "vanilla"] == ["wrn10-1", "resnet8v1"]
        assert {trial.dataset for trial in trials} == {"digits"}

    def test_learn_what_the_paper_says(self, prepared_dir):
        """Figure 2: label, mixing, teachers, what is summed, whether they see mixed images, at which temperature."""

        def learned(trial):
            method = trial.method
            taught = isinstance(method, Distillation)
            of_teachers = (method.mode, method.offline, method.weight, method.temperature) if taught else ()
            return method.gamma, method.mixing, len(trial.parents), *of_teachers

        assert {name: learned(trial) for name, trial in own(prepared_dir).items()} == {
            "vanilla": (1.0, None, 0),
            "ls": (0.9, None, 0),
            "kd": (1.0, None, 1, "kd", False, 0.1, 3.0),
            "off-ldl": (1.0, None, 1, "ensemble", True, 1.0, 1.0),
            "off-en-ldl": (1.0, None, 2, "ensemble", True, 1.0, 1.0),
            "off-mt-ldl": (1.0, None, 2, "multi", True, 1.0, 1.0),
            "on-ldl": (1.0, "ricap", 1, "ensemble", False, 1.0, 1.0),
            "on-en-ldl": (1.0, "ricap", 2, "ensemble", False, 1.0, 1.0),
            "on-mt-ldl": (1.0, "ricap", 2, "multi", False, 1.0, 1.0),
        }

    def test_protocol(self, prepared_dir):
        trial = own(prepared_dir, "--preset", "paper", "--students", "resnet8v1")["on-ldl"]
        assert (trial.optimizer, trial.learning_rate, trial.weight_decay) == ("momentum", 0.05, 5e-4)
        assert (trial.epochs, trial.batch_size) == (240, 64)
        assert [trial.rate_factor(epoch) for epoch in (149, 150, 180, 210, 239)] == [1, 0.1, 0.01, 0.001, 0.001]
        long = own(prepared_dir, "--preset", "paper", "--students", "resnet8v1")["on-ldl+"]
        assert long.epochs == 350
        assert [long.rate_factor(epoch) for epoch in (149, 150, 200, 250, 300)] == [1, 0.1, 0.01, 1e-3, 1e-4]

    def test_the_schedules_scale_along(self, prepared_dir):
        trials = own(prepared_dir, "--epochs", "24", "--methods", "on-ldl", "on-ldl+")
        assert trials["on-ldl"].schedule == ((15, 0.1), (18, 0.01), (21, 0.001))
        assert trials["on-ldl+"].epochs == 35
        assert trials["on-ldl+"].schedule == ((15, 0.1), (20, 0.01), (25, 0.001), (30, 0.0001))


class TestThePaper:
    def test_every_network_of_its_tables_is_trained_but_those_not_built(self, prepared_dir):
        """Its teachers are trained too; temperature scaling is of the vanilla networks' logits."""
        trials = plan_of(prepared_dir, "--preset", "paper").trials
        trained = {(trial.dataset, trial.model, trial.method.title) for trial in trials}
        trained |= {(t.dataset, t.model, f"on-ldl-{t.method.mixing}") for t in trials if t.method.title == "on-ldl"}
        paper = published("ldl")
        printed = set(zip(paper["dataset"], paper["model"], paper["method"], strict=True))
        absent = {method for _, _, method in printed - trained}
        assert absent == {"temperature-scaling", "sskd"}

    def test_small_students_have_resnet110_large_ones_resnet200(self, prepared_dir):
        plan = plan_of(prepared_dir, "--preset", "paper", "--datasets", "cifar100_full")
        teachers = {
            trial.model: {parent.model for parent in plan.parents(trial)}
            for trial in plan.trials
            if trial.method.title == "on-ldl+"
        }
        small, large = ("resnet20v1", "resnet56v1", "resnet110v1"), ("resnet18", "resnet50", "resnet200")
        expected = {**dict.fromkeys(small, "resnet110v1"), **dict.fromkeys(large, "resnet200")}
        assert teachers == {student: {teacher} for student, teacher in expected.items()}

    def test_the_ensemble_is_five_networks(self, prepared_dir):
        plan = plan_of(prepared_dir, "--preset", "paper", "--datasets", "stl10")
        students = [trial for trial in plan.trials if trial.method.title == "off-mt-ldl"]
        for trial in students:
            assert tuple(parent.model for parent in plan.parents(trial)) == CIFAR_RESNETS
            assert {parent.method.title for parent in plan.parents(trial)} == {"vanilla"}

    def test_each_network_is_trained_once(self, prepared_dir):
        plan = plan_of(prepared_dir, "--preset", "paper", "--seeds", "3")
        names = Counter((t.dataset, t.model, t.method.title, t.seed) for t in plan.trials)
        assert set(names.values()) == {1}
        assert {trial.seed for trial in plan.trials} == {0, 1, 2}
        for trial in plan.trials:
            assert {parent.seed for parent in plan.parents(trial)} <= {trial.seed}

    def test_mixing_of_small_and_large_networks(self, prepared_dir):
        trials = plan_of(prepared_dir, "--preset", "paper", "--datasets", "cifar100_full").trials
        mixing = {trial.model: trial.method.mixing for trial in trials if trial.method.title == "on-ldl+"}
        assert mixing["resnet20v1"] == "ricap"
        assert mixing["resnet50"] == "cutmix"


class TestOptions:
    def test_other_students_teachers_and_mixing(self, prepared_dir):
        arguments = ("--teacher", "wrn16-2", "--ensemble", "resnet8v1", "resnet20v1", "--augment", "cutmix:0.5")
        trials = own(prepared_dir, *arguments, "--methods", "kd", "on-ldl", "on-mt-ldl", "--gamma", "0.8")
        assert trials["kd"].method.teachers == "wrn16-2"
        assert trials["on-mt-ldl"].method.teachers == "2 teachers"
        assert trials["on-ldl"].method.mixing == "cutmix:0.5"

    def test_gamma_is_that_of_label_smoothing(self, prepared_dir):
        trials = own(prepared_dir, "--methods", "vanilla", "ls", "--gamma", "0.8")
        assert [trials[name].method.gamma for name in ("vanilla", "ls")] == [1.0, 0.8]

    def test_one_mixing_goes_by_one_name(self):
        assert method_named("on-ldl-ricap", QUICK)[1] == "on-ldl"
        assert method_named("on-ldl-ricap:0.3+", QUICK)[1] == "on-ldl+"
        assert method_named("on-ldl-cutmix", QUICK)[1] == "on-ldl-cutmix"
        assert method_named("vanilla-ricap", QUICK)[1] == "vanilla-ricap"

    def test_a_layer_of_keras_varies_images(self, prepared_dir):
        trial = own(prepared_dir, "--methods", "on-ldl", "--augment", "keras.RandomRotation:factor=0.1")["on-ldl"]
        assert trial.method.mixing == "keras.RandomRotation:factor=0.1"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--methods", "of-ldl"), "--methods must be among vanilla, ls, .* Received: of-ldl"),
            (("--methods", "on-ldl-mixop"), "mixop"),
            (("--augment", "mixop", "--methods", "on-ldl"), "mixop"),
            (("--gamma", "0.2"), r"own: `gamma` must be in \(1/K, 1\]"),
            (("--teacher", "human"), "--teacher human and --labels FILE go together"),
            (("--labels", "counts.npz"), "--teacher human and --labels FILE go together"),
        ],
    )
    def test_wrong_input(self, prepared_dir, arguments, message):
        with pytest.raises(PlanError, match=message):
            own(prepared_dir, *arguments)

    def test_a_student_has_the_setting_that_names_it(self, prepared_dir):
        arguments = ("--preset", "paper", "--datasets", "cifar100_full", "--methods", "kd", "on-ldl", "ogr", "ogr+")
        trials = plan_of(prepared_dir, *arguments, "--students", "resnet50", "resnet20v1").trials
        online = [trial for trial in trials if trial.method.title == "on-ldl"]
        found = {(trial.model, trial.method.teachers, trial.method.mixing) for trial in online}
        assert found == {("resnet50", "resnet200", "cutmix"), ("resnet20v1", "resnet110v1", "ricap")}
        assert {trial.method.window for trial in trials if isinstance(trial.method, OverfittingRatio)} == {10}
        shorter = plan_of(prepared_dir, *arguments, "--students", "resnet50", "--epochs", "48").trials
        assert {trial.method.window for trial in shorter if isinstance(trial.method, OverfittingRatio)} == {2}
        with_others = plan_of(prepared_dir, *arguments, "--students", "resnet32v1").trials
        assert {trial.method.teachers for trial in with_others if trial.parents} == {"resnet110v1"}

    def test_one_recipe_goes_by_one_name(self):
        assert method_named("vanilla-cutmix:1.0", QUICK)[1] == "vanilla-cutmix"
        with pytest.raises(PlanError):
            method_named("vanilla-", QUICK)

    def test_an_ensemble_is_asked_for(self, prepared_dir):
        with pytest.raises(PlanError, match=r"off-mt-ldl needs several teachers: name them with --ensemble"):
            plan_of(prepared_dir, "--preset", "paper", "--datasets", "imagenet_resized", "--methods", "off-mt-ldl")

    def test_all_that_is_not_prepared_is_named_at_once(self, prepared_dir):
        with pytest.raises(PlanError, match=r"(?s)one is not prepared.*two is not prepared"):
            plan_of(prepared_dir, "--datasets", "one", "two")


class TestHumanLabels:
    @pytest.fixture
    def labels(self, tmp_path):
        rng = np.random.default_rng(0)
        np.savez(tmp_path / "counts.npz", counts=rng.multinomial(50, [0.9, 0.06, 0.04], size=96))
        return str(tmp_path / "counts.npz")

    def test_stand_beside_hard_labels_and_smoothing_of_equal_entropy(self, prepared_dir, labels):
        plan = plan_of(prepared_dir, "--datasets", "own", "--teacher", "human", "--labels", labels)
        vanilla, smoothed, human = plan.trials
        assert [trial.method.title for trial in plan.trials] == ["vanilla", "ls", "human"]
        gamma, distributions = smoothed.method.gamma, human.method.labels
        assert vanilla.method.gamma == 1.0
        rest = 1 - gamma
        entropy = -gamma * np.log(gamma) - rest * np.log(rest / 2)
        of_people = -np.sum(distributions * np.log(np.maximum(distributions, 1e-30)), axis=1).mean()
        assert entropy == pytest.approx(of_people, abs=1e-6)

    def test_options_that_they_leave_unused_are_refused(self, prepared_dir, labels):
        arguments = ("--datasets", "own", "--teacher", "human", "--labels", labels)
        with pytest.raises(PlanError, match=r"human labels alone\. Received: --methods --gamma"):
            plan_of(prepared_dir, *arguments, "--methods", "on-ldl", "--gamma", "0.8")

    def test_of_several_data_sets_it_is_not_known_whose_they_are(self, prepared_dir, labels):
        with pytest.raises(PlanError, match="takes one dataset"):
            plan_of(prepared_dir, "--datasets", "own", "cifar10", "--teacher", "human", "--labels", labels)


def test_the_list_shows_every_setting(prepared_dir):
    listed = list_settings(prepared_dir)
    for setting in (QUICK, *PAPER):
        assert f"| {setting.dataset} " in listed
        assert all(f" {method} " in listed for method in setting.methods)
