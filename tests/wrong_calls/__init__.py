"""The table of wrong calls, a file per wing, and the public callables that need no row in it, each with the reason."""

from . import analysis, calibration, datasets, evaluation, figures, guarding, labels, models

CALLS = [
    row
    for wing in (labels, calibration, evaluation, analysis, guarding, models, figures, datasets)
    for row in wing.CALLS
]

RECORD = "a record, made by this project and not by its user"
KERAS = "its arguments are handed on to Keras, which checks them"
CHECK = "a check itself"
COMMANDS = "called by the command line and by other functions of the store, which have checked the arguments"
SOURCES = "called by the sources alone, with what they have read"
NEED_NO_ROW = {
    "decathlon.catalog.Entry": RECORD,
    "decathlon.mixing.Mixing": "the base of the mixings",
    "decathlon.preparation.open_or_make": COMMANDS,
    "decathlon.preparation.open_or_make_bundled": COMMANDS,
    "decathlon.sources.Example": RECORD,
    "decathlon.sources.absent_classes": SOURCES,
    "decathlon.sources.listed": SOURCES,
    "decathlon.sources.open_image": SOURCES,
    "decathlon.sources.repeated": SOURCES,
    "decathlon.sources.Source": RECORD,
    "decathlon.sources.SourceError": "an error",
    "decathlon.store.DataError": "an error",
    "decathlon.store.NotPreparedError": "an error",
    "decathlon.store.SizesDifferError": "an error",
    "decathlon.store.check_data_dir": CHECK,
    "decathlon.store.check_name": CHECK,
    "decathlon.store.default_data_dir": "takes no arguments",
    "decathlon.store.file_hash": COMMANDS,
    "decathlon.store.load": COMMANDS,
    "decathlon.store.prepare_command": COMMANDS,
    "decathlon.store.prepared": COMMANDS,
    "decathlon.store.prepared_names": COMMANDS,
    "decathlon.store.prepared_sizes": COMMANDS,
    "decathlon.store.read": COMMANDS,
    "decathlon.store.record_hash": COMMANDS,
    "decathlon.store.size_label": COMMANDS,
    "kls.utils.bootstrap.Interval": RECORD,
    "kls.study.study.Study": "its wrong calls are those of tests/kls/study/test_study.py",
    "kls.layers.batch_normalization.BatchNormalization": KERAS,
    "kls.layers.two_logits.TwoLogits": KERAS,
    "kls.models.registry.names": "takes no arguments",
    "kls.ood.scores.base.Score": "the base of the scores",
    "kls.targets.check_classes": CHECK,
    "kls.targets.check_gamma": CHECK,
}
