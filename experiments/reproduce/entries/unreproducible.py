"""Tables that are not reproduced, each with the reason."""

from ..registry import Entry
from ..table import Source

_GLIPSDP = ("Pauli, Gramlich, Allgöwer: Lipschitz constant estimation for general neural network architectures using "
            "control tools")
_NEMON = "Jafarpour, Davydov, Proskurnikov, Bullo: Robust implicit networks via non-Euclidean contractions"
_NAIS = ("Ciccone, Gallieri, Masci, Osendorfer, Gomez: NAIS-Net: Stable deep networks from non-autonomous differential "
         "equations")

ENTRIES = (
    Entry("glipsdp-subnetworks", "Time against the size of subnetworks, 16 convolutions",
          Source(_GLIPSDP, "2405.01125", "figure of the trade-off between subnetworks and computing time"),
          obstacle="the figure is of times of one conic solver for inequalities that are cut into pieces, which is not "
          "how the inequality is solved here, on weights (16 convolutions of 32 channels) that we do not have."),
    Entry("nemon-cifar", "Implicit networks on CIFAR-10: accuracy and Lipschitz constants",
          Source(_NEMON, "2106.03194", "experiments on CIFAR-10"),
          obstacle="the published values were not available to us. Implicit networks with convolutions are trained on "
          "MNIST by `python -m netgain.experiments.training.implicit_network --data npm --out FOLDER`."),
    Entry("nais-cifar", "NAIS-Net and residual networks on CIFAR-10 and CIFAR-100: accuracy and generalisation gap",
          Source(_NAIS, "1804.07209", "table of CIFAR-10 and CIFAR-100"),
          obstacle="it takes days of a GPU, and the published values were not available to us from a source that we "
          "could read. Blocks of the same kind are trained in nais-mnist, and on CIFAR-10 by "
          "`python -m netgain.experiments.training.stable_network --data FOLDER`."),
)
