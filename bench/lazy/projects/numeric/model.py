"""scikit-learn and scipy: fit, minimise."""
import numpy as np
from scipy.optimize import minimize
from sklearn.linear_model import LinearRegression

points = np.arange(20.0).reshape(-1, 1)
print(np.round(LinearRegression().fit(points, 3 * points[:, 0] + 1).coef_, 6))
print(np.round(minimize(lambda x: (x[0] - 2) ** 2, [0.0]).x, 3))
