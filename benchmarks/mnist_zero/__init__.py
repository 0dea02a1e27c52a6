"""The held-out digit: does a classifier know a class that it never saw? `python -m benchmarks.mnist_zero`

Repeats Song, "Deep Learning Lab final project report" (Yonsei University), on out-of-distribution detection in MNIST: a
classifier and a denoising autoencoder on one trunk learn the digits 1 to 9, by a loss that keeps wrong predictions
even. Thresholds on the maximum softmax and on the error of denoising then tell the digit 0 from them. They are chosen
without any 0: what the autoencoder makes of turned and heavily covered digits are proxy OOD images.

    python -m benchmarks.mnist_zero                                       quick, on bundled digits
    python -m benchmarks.mnist_zero --preset paper                        the paper; needs MNIST
    python -m benchmarks.mnist_zero --datasets mnist --held-out 7         any other digit, or several in turn
    python -m benchmarks.mnist_zero --datasets mine --held-out 8          any prepared dataset

Methods, all of one network: `cross-entropy` alone (Figure 4 a); `std-1` and `std-5`, equation 3 with k = 1 and 1 or 5
times equation 4 (Figure 4 b and c; `std-0` is equation 3 alone); and `classifier`, cross-entropy on unvaried images
without a decoder, which shows what the autoencoder is worth. It has no proxy OOD images, so no threshold on them. The
quick preset leaves `std-5` out.

`decathlon.hold_out` makes the data: training images of the other classes, of which the paper's share, 5,000 of 54,077,
is for validation. The evaluation split gives the ID images and those of the held-out class. Only the last judgement
sees these.

What the paper leaves open, and what is taken here:

- Optimiser, batch, epochs: Adam from 0.001 along a cosine, batches of 64, 10 epochs. No other augmentation than the
  noise, which classifier and decoder both see; images are in [0, 1].
- The noise: Gaussian with deviation 0.3, and one square per image (sides 10 to 14 of 28) of one random grey level.
  Images of another size get squares in proportion, and a deviation in proportion to the side, which blurs a stroke as
  much.
- The proxy OOD images: half of the validation images are turned by 90 or 270 degrees under the noise of training,
  half stand upright under a square of 18 to 22. What the decoder restores is clipped to [0, 1] and classified.
- The threshold "that gave the best accuracy": the one of the largest detection accuracy, (TPR + TNR) / 2, on the
  validation images and the proxy OOD images.
- A second threshold, for comparison with the paper's else accuracy: the one that 90 % of the validation images pass.
- The "minimum MSE loss" as the auxiliary criterion: the least error among the proxy OOD images, each against the
  image that it was restored from. Errors of 0s are larger, says the paper, so an image is OOD if its maximum softmax
  is below the threshold and its error is not below that minimum. Taken as a criterion of its own, it would refuse
  nearly every image.
- Equation 4 is printed with the sign that rewards uneven scores; `kls.FocalStd` takes the one that the text means.
- Whether the paper's 96 % and 90 % are those of test or of validation images; here all are of test images.
"""

STUDY = "mnist_zero"
