"""numpy, as in a script that works on arrays."""
import numpy as np

rng = np.random.default_rng(1)
matrix = rng.normal(size=(60, 60))
values, vectors = np.linalg.eigh(matrix @ matrix.T)
print(values.shape, bool(np.allclose(vectors @ vectors.T, np.eye(60))))
print(np.round(np.fft.fft(np.arange(8)), 6).sum(), np.histogram(rng.random(100), bins=4)[0])
