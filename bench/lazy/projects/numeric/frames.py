"""pandas: read, group, join, show."""
import io

import pandas as pd

text = "name,kind,amount\n" + "\n".join(f"n{i},{'ab'[i % 2]},{i * 1.5}" for i in range(200))
frame = pd.read_csv(io.StringIO(text))
print(frame.groupby("kind")["amount"].agg(["mean", "max"]))
kinds = pd.DataFrame({"kind": ["a", "b"], "title": ["one", "two"]})
print(frame.merge(kinds, on="kind").head(3).to_string())
print(pd.date_range("2024-01-31", periods=3, freq="ME").strftime("%d.%m.").tolist())
