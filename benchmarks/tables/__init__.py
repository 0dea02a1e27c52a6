"""Any metric of a finished run, from its stored logits: `python -m benchmarks.tables runs/decathlon --metric ece nll`

No model is built and nothing is trained or predicted. Calibration metrics are those of `kls.calibration`, of the
evaluation split; `auroc`, `aupr_in`, `aupr_out` and `fpr95` hold it against the OOD datasets that the run was given
with `--ood`, by a score of logits, or by one that the run stored.
"""
