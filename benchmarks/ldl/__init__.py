"""Label distribution learning: is a teacher's output a better label than the hard one? `python -m benchmarks.ldl`

Repeats the paper on label distribution learning (LDL), which trains students on the output of trained networks alone,
in nine configurations (its Figure 2) and, beside them, with other distillation, Monte Carlo dropout and its
overfitting-to-generalisation ratio.

    python -m benchmarks.ldl                                      quick, on bundled data
    python -m benchmarks.ldl --preset paper                       the paper; needs its data
    python -m benchmarks.ldl --datasets mine --methods vanilla ls on-ldl --augment cutmix
    python -m benchmarks.ldl --datasets mine --teacher human --labels counts.npz

| | method | label that the student learns |
|---|---|---|
| 1 | `vanilla` | the hard label |
| 2 | `ls` | gamma for the true class, (1 - gamma) / (K - 1) for each other; the paper's alpha is 1 - gamma |
| 3 | `kd` | 0.9 of the hard label, 0.1 of the teacher's output at temperature 3 |
| 4 | `off-ldl` | the teacher's output on the unvaried image, computed once |
| 5 | `off-en-ldl` | the mean of several teachers' |
| 6 | `off-mt-ldl` | the sum of several teachers' cross-entropies |
| 7 | `on-ldl` | the teacher's output on the mixed image that the student sees; the mixed hard label is not used |
| 8 | `on-en-ldl` | the mean of several teachers' |
| 9 | `on-mt-ldl` | the sum of several teachers' cross-entropies |

A `+` behind a method is the long schedule. Cross-entropy is linear in its target, so the sum over N teachers is N times
the mean: `mt` is `en` at N times the weight, which is a larger step against the same weight decay and nothing else.

Beside the nine: `vanilla-MIXING` learns the mixed hard label of MixUp, CutMix or RICAP, `on-ldl-MIXING` the teacher's
output on such images (`on-ldl` takes the mixing of `--augment`); `wsl` and `crd` are other distillation; `mcdo` has
Monte Carlo dropout, `on-ldl-mcdo-t` teachers with it, `on-ldl-mcdo-st` both sides; `ogr` weighs the loss of each class
by its overfitting-to-generalisation ratio, `on-ldl-ogr` softens labels by it (`kls.analysis.overfitting`).

Protocol of the paper: SGD with momentum 0.9 from 0.05, a tenth of it after 150, 180 and 210 of 240 epochs; long: after
150, 200, 250 and 300 of 350; weight decay 5e-4, batches of 64, 3 seeds; ECE with 10 bins. The ensemble is ResNet-20,
32, 44, 56 and 110. `--epochs N` scales both schedules.

What the paper leaves open, and what is taken here: the strength of label smoothing (0.1); padding by an eighth of the
side (4 of 32 pixels), a random crop and a flip, as in the code of contrastive distillation (Tian et al. 2020), whose
protocol this is; weight decay on all trainable weights, through the gradient, as PyTorch's SGD does it; a student of
seed s learns from teachers of seed s; ImageNet, whose schedule the scan does not show, has that of CIFAR, and 64 px;
Monte Carlo dropout sits before the last layer; offline labels are made of images that are neither shifted nor
mirrored; CutMix, MixUp and RICAP are applied to every batch, as in the paper's own listing; the overfitting-to-
generalisation ratios come from a tenth of the training images, which is held out, over windows of 10 epochs of 240.
"""

STUDY = "ldl"
