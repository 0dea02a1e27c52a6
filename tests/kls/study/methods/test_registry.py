import textwrap
from dataclasses import dataclass, fields
from pathlib import Path

import keras
import numpy as np
import pytest

from kls.study import methods
from kls.study.methods import (
    CrossEntropy,
    Distillation,
    LabelSmoothing,
    Method,
    OutlierExposure,
    check_registered,
    parse,
    register,
)
from kls.study.methods.registry import METHODS

from .. import my_methods

FIRST = {"outlier_exposure": {"outliers": "noise"}, "soft_labels": {"labels": np.eye(3)}}


@pytest.fixture(autouse=True)
def _nothing_stays_registered(monkeypatch):
    monkeypatch.setattr("kls.study.methods.registry.METHODS", dict(METHODS))


@pytest.fixture(params=sorted(METHODS))
def method(request):
    """Each registered method, with its defaults."""
    return METHODS[request.param](**FIRST.get(request.param, {}))


class TestEveryMethod:
    def test_it_is_found_in_the_package(self, method):
        assert getattr(methods, type(method).__name__, my_methods.Penalised) is type(method)
        assert type(method).__name__ in methods.__all__ or not type(method).__module__.startswith("kls.")

    def test_it_has_a_label_and_a_recipe_of_its_own(self, method):
        assert method.label
        assert method.recipe["name"] == method.name
        assert hash(method) == hash(type(method)(**{f.name: getattr(method, f.name) for f in fields(method) if f.init}))

    def test_a_title_is_its_label(self, method):
        values = {f.name: getattr(method, f.name) for f in fields(method) if f.init}
        assert type(method)(**{**values, "title": "mine"}).label == "mine"

    def test_its_parameters_are_in_its_recipe(self, method):
        names = {field.name for field in fields(method) if field.compare and getattr(method, field.name) is not None}
        assert method.recipe.keys() - {"name", "code"} == names


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("cross_entropy", CrossEntropy()),
        ("label_smoothing:gamma=0.8", LabelSmoothing(0.8)),
        ("label_smoothing:gamma=0.8,mixing=cutmix,title=a b", LabelSmoothing(0.8, mixing="cutmix", title="a b")),
        ("outlier_exposure:outliers=noise+photos,epochs=3", OutlierExposure(("noise", "photos"), epochs=3)),
        ("distillation:models=wrn10-1,offline=True", Distillation(models="wrn10-1", offline=True)),
        (
            "distillation:teacher=(outlier_exposure:outliers=noise,weight=1.0),temperature=2.0",
            Distillation(OutlierExposure("noise", 1.0), temperature=2.0),
        ),
        ("distillation:teacher=(cross_entropy)", Distillation()),
        ("distillation:teacher=cross_entropy", Distillation()),
        ("label_smoothing:schedule=((10,0.1),(20,0.01))", LabelSmoothing(schedule=((10, 0.1), (20, 0.01)))),
        ("kls.study.methods.cross_entropy:LabelSmoothing:gamma=0.5", LabelSmoothing(0.5)),
    ],
)
def test_a_text_means_a_method(text, method):
    assert parse(text) == method


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", r"A method must be one of cross_entropy, .*, or package.module:Class. Received: 'nothing'"),
        (
            "label_smoothing:gama=1",
            r"label_smoothing must have parameters among gamma, .* Received: 'label_smoothing:gama=1'",
        ),
        ("label_smoothing:gamma", r"must be NAME=VALUE, with commas between. Received: 'gamma'"),
        ("label_smoothing:gamma=2", r"`gamma` must be a number in \(0, 1\]. Received: gamma=2"),
        ("cross_entropy:gamma=0.5", r"cross_entropy must have parameters among mixing, .*, title. Received"),
        ("label_smoothing:schedule=((1,0.1)", r"Brackets of a method must be closed"),
        ("nowhere:Mine", r"The method 'nowhere:Mine' cannot be imported: No module named 'nowhere'"),
        ("math:sin", r"'math:sin' must be a subclass of `kls.study.methods.Method`"),
        ("kls.study.methods:Method", r"must be a subclass of .*, registered with"),
        ("outlier_exposure", r"outlier_exposure must have parameters among outliers"),
    ],
)
def test_a_text_that_means_none_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LabelSmoothing(mixing="foo"), "`mixing`|foo"),
        (lambda: LabelSmoothing(dropout=9), r"`dropout` must be a number in \[0, 1\)"),
        (lambda: LabelSmoothing(epochs=0), "`epochs` must be a whole number"),
        (lambda: LabelSmoothing(learning_rate=0), "`learning_rate` must be a number"),
        (lambda: LabelSmoothing(schedule="step"), "`schedule` must be 'cosine', or pairs"),
        (lambda: OutlierExposure("noise", mixing="cutmix"), "`mixing` must be None: outliers stand beside"),
        (lambda: OutlierExposure("noise", weight=-1), "`weight` must be a number"),
        (lambda: Distillation(mode="nothing"), "`mode` must be one of"),
        (lambda: Distillation(temperature=0), "`temperature` must be a number"),
        (lambda: Distillation(offline=True, mixing="cutmix"), "must be None with `offline`"),
        (lambda: Distillation(mode="crd", mixing="cutmix"), "must be None with mode='crd'"),
        (lambda: Distillation(5), "`teacher` must be a method. Received: teacher=5"),
    ],
)
def test_parameters_that_no_training_can_have_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class TestRegister:
    def make(self, beta_default):
        @dataclass(frozen=True)
        class Mine(Method):
            beta: float = beta_default

        return Mine

    def test_a_method_from_outside_is_known_by_its_source_too(self):
        registered = register("mine")(self.make(0.5))
        assert len(registered().recipe["code"]) == 12
        assert "code" not in LabelSmoothing().recipe

    @pytest.mark.parametrize("name", ["", "a b", "a:b", 5, None])
    def test_a_name_that_is_none_is_refused(self, name):
        with pytest.raises(ValueError, match="`name` must consist of letters, digits and '_'"):
            register(name)

    def test_a_name_that_is_taken_is_refused(self):
        with pytest.raises(ValueError, match=r"`name` must be new. Received: name='label_smoothing', which is"):
            register("label_smoothing")(self.make(0.5))

    def test_a_subclass_without_a_name_of_its_own_is_refused(self):
        @dataclass(frozen=True)
        class Mine(LabelSmoothing):
            pass

        for method in (Mine(0.9), Distillation(Mine(0.9)), Method()):
            with pytest.raises(ValueError, match=r"`methods` must be registered, .* Received: (Mine|Method)"):
                check_registered(method)
        check_registered(Distillation(LabelSmoothing(0.9)))

    def test_what_is_no_method_is_refused(self):
        with pytest.raises(TypeError, match="`register` must decorate a subclass of `Method`"):
            register("mine")(keras.losses.Loss)


def test_numbers_of_numpy_and_lists_are_plain_in_a_recipe():
    method = OutlierExposure(["noise"], np.float32(0.5), np.int64(3))
    assert method.recipe["outliers"] == ("noise",)
    assert type(method.weight) is float
    assert type(method.outlier_batch_size) is int
    assert hash(method) == hash(OutlierExposure("noise", 0.5, 3))


def test_the_example_of_the_docstring_is_what_is_tested():
    _, _, example = methods.__doc__.partition("    # my_methods.py\n")
    example, _, _ = example.partition("\nFrom Python")
    assert textwrap.dedent(example).strip() in Path(my_methods.__file__).read_text()
