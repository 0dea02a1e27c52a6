import numpy as np

from benchmarks.decathlon.figures import accuracy_against_gamma


def test_a_panel_per_data_set_and_a_line_per_curve():
    curves = {
        "digits": {"measured (n=2)": ([0.9, 1.0], [97.8, 97.5], [0.1, 0.2]), "published (n=1)": ([0.8], [90.0], [0])},
        **{f"set {i}": {"measured (n=1)": ([1.0], [50.0 + i], [0])} for i in range(5)},
    }
    figure = accuracy_against_gamma(curves)
    visible = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in visible] == list(curves)
    np.testing.assert_allclose(visible[0].lines[0].get_xydata(), [[0.9, 97.8], [1.0, 97.5]])
    assert [text.get_text() for text in visible[0].get_legend().get_texts()] == ["measured (n=2)", "published (n=1)"]
    assert {axes.get_xlabel() for axes in visible} == {"gamma (probability of the true class)"}
    assert {axes.get_ylabel() for axes in visible} == {"best accuracy, %"}


def test_one_panel_is_drawn_alone(tmp_path):
    figure = accuracy_against_gamma({"digits": {"measured (n=1)": ([1.0], [97.5], [0])}})
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert len(figure.axes) == 1
