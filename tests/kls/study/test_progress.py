"""What is shown of heads that are trained at once."""

from kls.study.methods import LabelSmoothing
from kls.study.progress import LiveReport, PlainReport, Watch

LOGS = {"loss0": 0.5, "accuracy0": 0.75, "val_loss0": 0.6, "val_accuracy0": 0.7}


def group_of(make_trial):
    return tuple(make_trial(gamma=gamma, fine_tune="head") for gamma in (1.0, 0.9, 0.8))


def test_the_live_line_names_the_first_and_counts_the_others(make_trial, capsys):
    group, alone = group_of(make_trial), make_trial(method=LabelSmoothing(0.7), fine_tune="head")
    with LiveReport(trials=5, work={group[0]: 100.0, group[1]: 0.0, group[2]: 0.0, alone: 100.0}) as report:
        report.group_begins(group)
        report.group_begins([alone])
        first, second = report.bar.tasks
        assert first.description == "[2/5] stripes head of resnet8v1 gamma=1 seed=0 and 2 more"
        assert second.description == "[5/5] stripes head of resnet8v1 gamma=0.7 seed=0"
        watch = Watch(report, group[0], 6, ("loss0", "accuracy0"))
        watch.on_epoch_begin(0)
        watch.on_train_batch_end(5, LOGS)
        watch.on_epoch_end(0, LOGS)
        state = report.state(report.under_way[group[0]], with_rate=False)
        assert state.startswith("epoch 1/2  loss 0.500  accuracy 75.0%  validation 70.0%  left ")
        for trial in group:
            report.trial_ends(trial)
        assert [task.description for task in report.bar.tasks] == [second.description]
    assert "epoch 1/2  loss 0.5000" not in capsys.readouterr().out


def test_plain_lines_leave_the_epochs_of_heads_out(make_trial, capsys):
    group = group_of(make_trial)
    report = PlainReport(trials=3, work={group[0]: 100.0, group[1]: 0.0, group[2]: 0.0})
    report.group_begins(group)
    assert list(report.under_way) == [group[0]]
    assert report.clock.work == 2 * 100.0
    watch = Watch(report, group[0], 6, ("loss0", "accuracy0"))
    for epoch in range(2):
        watch.on_epoch_begin(epoch)
        watch.on_train_batch_end(5, LOGS)
        watch.on_epoch_end(epoch, LOGS)
    assert capsys.readouterr().out == ""
    assert report.clock.work == 0
    assert [report.name(trial).partition(" ")[0] for trial in group] == ["[1/3]", "[2/3]", "[3/3]"]
