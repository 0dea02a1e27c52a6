"""The gamma study: what does label smoothing do to accuracy? `python -m benchmarks.decathlon --gamma 0.9`

Repeats Mezzini 2018, "Empirical study on label smoothing in neural networks": networks trained with the label
distribution of equation 7, gamma on the true class, for gamma from 1 downwards on thirteen rows of datasets and
networks; Tables 1 and 2 (best validation accuracy per gamma) and Table 3 (best gamma against gamma = 1).

    python -m benchmarks.decathlon --gamma 0.9                    quick, on bundled data: two gammas, minutes
    python -m benchmarks.decathlon --gamma sweep --preset paper   the paper; needs its data (python -m decathlon list)

What the paper says: ResNet v2-83 for all but MNIST and ImageNet (b), which take v1-20; Adam from 1e-3, times 1e-1,
1e-2, 1e-3 after epochs 80, 120, 160 and 0.5e-3 after 180, 200 epochs in all, ImageNet with v2-83 stopped after 100;
shifts of up to 10 % in both directions, then a random horizontal flip; minus the training mean, but for ImageNet;
batches of 64 on ImageNet. It took two Tesla P100 more than 8,000 s per ImageNet epoch.

What it leaves open, and what is taken here: the batch size elsewhere (64 too), the image size of the decathlon's
sets (64 pixels), the L2 penalty (1e-4 as in the Keras CIFAR example that its networks follow), what lies outside a
shifted image (zeros, which is the mean image), whether a rate "after 80 epochs" holds from the 81st epoch on, as
here, or from the 82nd, as in the Keras example.

The quick preset trains ResNet v1-8 for 20 epochs, digits for 10, with the same shape of schedule. Characters of the
bundled sets are not mirrored; and since shifts are whole pixels, the digits of 8 pixels are not shifted either.
"""

STUDY = "decathlon"
