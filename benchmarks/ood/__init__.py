"""Soft labels and OOD detection: what does smoothing cost, and can a teacher give it back? `python -m benchmarks.ood`

Repeats Lee & Cheon 2020, "Soft labeling affects out-of-distribution detection of deep neural networks": networks
trained with smoothed labels (Figure 1), fine-tuned with outliers (OE), and students of both that never see an outlier
(OD: Tables 1 and 2, Figure 2). Beyond the paper, the "corrections" table: is the damage that smoothing does to OOD
detection real, or does it lie in the score?

    python -m benchmarks.ood                                      quick, on bundled data
    python -m benchmarks.ood --preset paper                       the paper; needs its data
    python -m benchmarks.ood --datasets mine --outliers textures --ood noise photos --scores msp energy knn

The quick preset holds handwritten digits against glyphs, of which 10 in 62 are digits too, drawn with fonts.

The recipe is that of the official code of outlier exposure (Hendrycks et al. 2019), as Lee & Cheon say, "except that we
use 150 epochs": WRN-40-2 with dropout 0.3; SGD with Nesterov momentum 0.9, from 0.1 along a cosine per step to 1e-6,
weight decay 5e-4, batches of 128; padding by 4 pixels and a random crop, a random flip. Fine-tuning: 10 epochs from
0.001, with 256 outliers in every batch of 128 (one forward pass) weighed by 0.5. SVHN, in that code: 20 epochs from
0.01, fine-tuning 5 epochs from 1e-4, no augmentation, no normalisation.

Students: equation 5 of Lee & Cheon, with the settings of Mueller et al. 2019, "When does label smoothing help?", to
which they refer: the teacher's output alone (Mueller's beta = 1, so alpha = 1 in equation 5) at temperature 1, the
unchanged softmax of equation 5. A student is trained like the baseline otherwise; teacher and student see the same
augmented image.

What the paper leaves open, and what is taken here: the grid of alpha (Figure 1 is not readable in numbers; the text
names 0.001 and 0.1), n and its spread, the bins of ECE (15), how two outlier sets are mixed (their training images in
one random order).

What differs from the code: SVHN has the 73,257 images of `train`, not the 604,388 of `train` and `extra`, and WRN-40-2,
as Lee & Cheon say, not WRN-16-4 with dropout 0.4; LSUN is the catalogue's, the validation images of one scene; inputs
are minus the mean image and not divided by the channels' deviation; what lies outside a crop is the mean image, not
black; outliers of SVHN are not flipped; the order of the outliers is drawn, since prepared folders are sorted by class.
DenseNet-40-12 has its own authors' weight decay of 1e-4.
"""

STUDY = "ood"
SCORES = ("msp", "max_logit", "energy", "odin", "knn")
