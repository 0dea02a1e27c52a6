import pytest

from kls.models import ResNetV1, build, names, register


def test_an_unknown_name_lists_the_registered_and_the_nearest():
    with pytest.raises(ValueError, match=r"wrn40-2.*Received: name='resnet20'. Did you mean .*resnet20v1"):
        build("resnet20", (32, 32, 3), 10)


def test_what_a_name_fixes_cannot_be_given_again():
    with pytest.raises(TypeError, match="'depth'"):
        build("resnet20v1", (32, 32, 3), 10, depth=8)


@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        (20, ResNetV1, "`name` must be a string that is not empty. Received: name=20"),
        ("", ResNetV1, "`name` must be a string that is not empty. Received: name=''"),
        ("mine", None, "`function` must be a function that returns a model. Received: function=None"),
    ],
)
def test_what_cannot_be_registered_is_refused(name, function, message):
    with pytest.raises(ValueError, match=message):
        register(name, function)
    assert name not in names()
