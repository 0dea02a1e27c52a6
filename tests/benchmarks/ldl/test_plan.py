"""The trials of the study, as the paper has them."""

from collections import Counter

import numpy as np
import pytest

from benchmarks.ldl.__main__ import _parser
from benchmarks.ldl.plan import CIFAR_RESNETS, NINE, PAPER, QUICK, list_settings, make_plan, method_named
from benchmarks.runner.plan import PlanError
from benchmarks.runner.published import published


@pytest.fixture(scope="module")
def room(tmp_path_factory, prepare_random):
    """Small sets under the paper's names, and `own` of three classes."""
    directory = tmp_path_factory.mktemp("room")
    for name, classes in (("cifar10", 10), ("stl10", 10), ("cifar100_full", 100), ("imagenet_resized", 20)):
        prepare_random(name, directory, train=130, test=100, shape=(8, 8, 3), classes=classes)
    prepare_random("own", directory, train=96, classes=3)
    return directory


def plan_of(room, *arguments):
    return make_plan(_parser().parse_args([*arguments, "--data-dir", str(room)]))[0]


def own(room, *arguments):
    """Returns `{configuration: trial}` of the student resnet8v1 on `own`."""
    plan = plan_of(room, "--datasets", "own", *arguments)
    return {trial.configuration: trial for trial in plan.trials if trial.model == "resnet8v1"}


class TestTheNineConfigurations:
    def test_are_what_the_quick_preset_trains(self, room):
        trials = plan_of(room).trials
        assert [trial.configuration for trial in trials if trial.model == "resnet8v1"] == list(NINE)
        assert [trial.model for trial in trials if trial.configuration == "vanilla"] == ["wrn10-1", "resnet8v1"]
        assert {trial.dataset for trial in trials} == {"digits"}

    def test_learn_what_the_paper_says(self, room):
        """Figure 2: label, teachers, whether the teachers see mixed images, what is summed, at which temperature."""
        found = {
            name: (
                *(trial.gamma, trial.loss, trial.distillation, len(trial.parents), trial.offline, trial.mixing),
                *(trial.teacher_weight, trial.temperature),
            )
            for name, trial in own(room).items()
        }
        ricap = "ricap"
        assert found == {
            "vanilla": (1.0, "smoothed_ce", None, 0, None, None, None, None),
            "ls": (0.9, "smoothed_ce", None, 0, None, None, None, None),
            "kd": (1.0, "distillation", "kd", 1, None, None, 0.1, 3.0),
            "off-ldl": (1.0, "distillation", "ensemble", 1, True, None, 1.0, 1.0),
            "off-en-ldl": (1.0, "distillation", "ensemble", 2, True, None, 1.0, 1.0),
            "off-mt-ldl": (1.0, "distillation", "multi", 2, True, None, 1.0, 1.0),
            "on-ldl": (1.0, "distillation", "ensemble", 1, None, ricap, 1.0, 1.0),
            "on-en-ldl": (1.0, "distillation", "ensemble", 2, None, ricap, 1.0, 1.0),
            "on-mt-ldl": (1.0, "distillation", "multi", 2, None, ricap, 1.0, 1.0),
        }

    def test_protocol(self, room):
        trial = own(room, "--preset", "paper", "--students", "resnet8v1")["on-ldl"]
        assert (trial.optimizer, trial.learning_rate, trial.weight_decay) == ("momentum", 0.05, 5e-4)
        assert (trial.epochs, trial.batch_size) == (240, 64)
        assert [trial.rate_factor(epoch) for epoch in (149, 150, 180, 210, 239)] == [1, 0.1, 0.01, 0.001, 0.001]
        long = own(room, "--preset", "paper", "--students", "resnet8v1")["on-ldl+"]
        assert long.epochs == 350
        assert [long.rate_factor(epoch) for epoch in (149, 150, 200, 250, 300)] == [1, 0.1, 0.01, 1e-3, 1e-4]

    def test_the_schedules_scale_along(self, room):
        trials = own(room, "--epochs", "24", "--methods", "on-ldl", "on-ldl+")
        assert trials["on-ldl"].schedule == ((15, 0.1), (18, 0.01), (21, 0.001))
        assert trials["on-ldl+"].epochs == 35
        assert trials["on-ldl+"].schedule == ((15, 0.1), (20, 0.01), (25, 0.001), (30, 0.0001))


class TestThePaper:
    def test_every_network_of_its_tables_is_trained_but_those_not_built(self, room):
        """Its teachers are trained too; temperature scaling is of the vanilla networks' logits."""
        trials = plan_of(room, "--preset", "paper").trials
        trained = {(trial.dataset, trial.model, trial.configuration) for trial in trials}
        trained |= {(t.dataset, t.model, f"on-ldl-{t.mixing}") for t in trials if t.configuration == "on-ldl"}
        paper = published("ldl")
        printed = set(zip(paper["dataset"], paper["model"], paper["method"], strict=True))
        absent = {method for _, _, method in printed - trained}
        assert absent == {"temperature-scaling", "sskd"}

    def test_small_students_learn_from_resnet110_large_ones_from_resnet200(self, room):
        plan = plan_of(room, "--preset", "paper", "--datasets", "cifar100_full")
        teachers = {
            trial.model: {parent.model for parent in plan.parents(trial)}
            for trial in plan.trials
            if trial.configuration == "on-ldl+"
        }
        small, large = ("resnet20v1", "resnet56v1", "resnet110v1"), ("resnet18", "resnet50", "resnet200")
        expected = {**dict.fromkeys(small, "resnet110v1"), **dict.fromkeys(large, "resnet200")}
        assert teachers == {student: {teacher} for student, teacher in expected.items()}

    def test_the_ensemble_is_five_networks(self, room):
        plan = plan_of(room, "--preset", "paper", "--datasets", "stl10")
        students = [trial for trial in plan.trials if trial.configuration == "off-mt-ldl"]
        for trial in students:
            assert tuple(parent.model for parent in plan.parents(trial)) == CIFAR_RESNETS
            assert {parent.configuration for parent in plan.parents(trial)} == {"vanilla"}

    def test_each_network_is_trained_once(self, room):
        plan = plan_of(room, "--preset", "paper", "--seeds", "3")
        names = Counter((t.dataset, t.model, t.configuration, t.seed) for t in plan.trials)
        assert set(names.values()) == {1}
        assert {trial.seed for trial in plan.trials} == {0, 1, 2}
        for trial in plan.trials:
            assert {parent.seed for parent in plan.parents(trial)} <= {trial.seed}

    def test_mixing_of_small_and_large_networks(self, room):
        trials = plan_of(room, "--preset", "paper", "--datasets", "cifar100_full").trials
        mixing = {trial.model: trial.mixing for trial in trials if trial.configuration == "on-ldl+"}
        assert mixing["resnet20v1"] == "ricap"
        assert mixing["resnet50"] == "cutmix"


class TestOptions:
    def test_other_students_teachers_and_mixing(self, room):
        arguments = ("--teacher", "wrn16-2", "--ensemble", "resnet8v1", "resnet20v1", "--augment", "cutmix:0.5")
        trials = own(room, *arguments, "--methods", "kd", "on-ldl", "on-mt-ldl", "--gamma", "0.8")
        assert trials["kd"].teacher == "wrn16-2"
        assert trials["on-mt-ldl"].teacher == "2 teachers"
        assert trials["on-ldl"].mixing == "cutmix:0.5"

    def test_gamma_is_that_of_label_smoothing(self, room):
        trials = own(room, "--methods", "vanilla", "ls", "--gamma", "0.8")
        assert [trials[name].gamma for name in ("vanilla", "ls")] == [1.0, 0.8]

    def test_one_mixing_goes_by_one_name(self):
        assert method_named("on-ldl-ricap", QUICK)[1] == "on-ldl"
        assert method_named("on-ldl-ricap:0.3+", QUICK)[1] == "on-ldl+"
        assert method_named("on-ldl-cutmix", QUICK)[1] == "on-ldl-cutmix"
        assert method_named("vanilla-ricap", QUICK)[1] == "vanilla-ricap"

    def test_a_layer_of_keras_varies_images(self, room):
        trial = own(room, "--methods", "on-ldl", "--augment", "keras.RandomRotation:factor=0.1")["on-ldl"]
        assert trial.mixing == "keras.RandomRotation:factor=0.1"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--methods", "of-ldl"), "--methods must be among vanilla, ls, .* Received: of-ldl"),
            (("--methods", "on-ldl-mixop"), "mixop"),
            (("--augment", "mixop", "--methods", "on-ldl"), "mixop"),
            (("--gamma", "0.2"), r"own: `gamma` must be in \(1/K, 1\]"),
            (("--batch-size", "97"), "--batch-size must be at most 96, the training images of own. Received: 97"),
            (("--teacher", "human"), "--teacher human and --labels FILE go together"),
            (("--labels", "counts.npz"), "--teacher human and --labels FILE go together"),
        ],
    )
    def test_wrong_input(self, room, arguments, message):
        with pytest.raises(PlanError, match=message):
            own(room, *arguments)

    def test_a_student_has_the_setting_that_names_it(self, room):
        arguments = ("--preset", "paper", "--datasets", "cifar100_full", "--methods", "kd", "on-ldl", "ogr", "ogr+")
        trials = plan_of(room, *arguments, "--students", "resnet50", "resnet20v1").trials
        found = {(trial.model, trial.teacher, trial.mixing) for trial in trials if trial.configuration == "on-ldl"}
        assert found == {("resnet50", "resnet200", "cutmix"), ("resnet20v1", "resnet110v1", "ricap")}
        assert {trial.window for trial in trials if trial.window} == {10}
        with_others = plan_of(room, *arguments, "--students", "resnet32v1").trials
        assert {trial.teacher for trial in with_others if trial.teacher} == {"resnet110v1"}

    def test_one_recipe_goes_by_one_name(self):
        assert method_named("vanilla-cutmix:1.0", QUICK)[1] == "vanilla-cutmix"
        with pytest.raises(PlanError):
            method_named("vanilla-", QUICK)

    def test_what_contrastive_distillation_and_dropout_do_not_go_with(self, room):
        with pytest.raises(PlanError, match=r"crd of wrn10-1 .* memory of one replica. Received: --strategy mirrored"):
            own(room, "--methods", "crd", "--strategy", "mirrored")
        for more in (["--features"], ["--scores", "knn"]):
            with pytest.raises(PlanError, match=r"--features, and scores of features, cannot be had of .* mcdo"):
                own(room, "--methods", "mcdo", *more)

    def test_an_ensemble_is_asked_for(self, room):
        with pytest.raises(PlanError, match=r"off-mt-ldl needs several teachers: name them with --ensemble"):
            plan_of(room, "--preset", "paper", "--datasets", "imagenet_resized", "--methods", "off-mt-ldl")

    def test_all_that_is_not_prepared_is_named_at_once(self, room):
        with pytest.raises(PlanError, match=r"(?s)one is not prepared.*two is not prepared"):
            plan_of(room, "--datasets", "one", "two")


class TestHumanLabels:
    @pytest.fixture
    def labels(self, tmp_path):
        rng = np.random.default_rng(0)
        np.savez(tmp_path / "counts.npz", counts=rng.multinomial(50, [0.9, 0.06, 0.04], size=96))
        return str(tmp_path / "counts.npz")

    def test_stand_beside_hard_labels_and_smoothing_of_equal_entropy(self, room, labels):
        plan = plan_of(room, "--datasets", "own", "--teacher", "human", "--labels", labels)
        vanilla, smoothed, human = plan.trials
        assert [trial.configuration for trial in plan.trials] == ["vanilla", "ls", "human"]
        ((fingerprint, distributions),) = plan.soft_labels.items()
        assert human.soft_labels == fingerprint
        assert vanilla.soft_labels is smoothed.soft_labels is None
        rest = 1 - smoothed.gamma
        entropy = -smoothed.gamma * np.log(smoothed.gamma) - rest * np.log(rest / 2)
        of_people = -np.sum(distributions * np.log(np.maximum(distributions, 1e-30)), axis=1).mean()
        assert entropy == pytest.approx(of_people, abs=1e-6)

    def test_options_that_they_leave_unused_are_refused(self, room, labels):
        arguments = ("--datasets", "own", "--teacher", "human", "--labels", labels)
        with pytest.raises(PlanError, match=r"human labels alone\. Received: --methods --gamma"):
            plan_of(room, *arguments, "--methods", "on-ldl", "--gamma", "0.8")

    def test_of_several_data_sets_it_is_not_known_whose_they_are(self, room, labels):
        with pytest.raises(PlanError, match="takes one data set"):
            plan_of(room, "--datasets", "own", "cifar10", "--teacher", "human", "--labels", labels)


def test_the_list_shows_every_setting(room):
    listed = list_settings(room)
    for setting in (QUICK, *PAPER):
        assert f"| {setting.dataset} " in listed
        assert all(f" {method} " in listed for method in setting.methods)
