"""matplotlib: a figure into a file."""
import os
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

figure, axes = plt.subplots()
axes.plot([1, 2, 3], [1, 4, 9], label="squares")
axes.legend()
figure.savefig(sys.argv[1] + "/figure.png")
print(os.path.getsize(sys.argv[1] + "/figure.png") > 1000)
