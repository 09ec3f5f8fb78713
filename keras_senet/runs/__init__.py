"""A work directory: which run it belongs to, what is in it, and how that is read and written."""

RECIPE = "recipe.json"  # with the engine, the environment and a digest of the images
METRICS = "metrics.csv"
NETWORK = "model.keras"
WEIGHTS = "model.weights.h5"  # and how images are prepared, which `model.keras` does not say
REPORT = "report.json"
SPLIT = "split.csv"  # how images were divided into training and validation images, if they were
PER_CLASS = "per_class.csv"  # of the last evaluation
STATES = {"trainer": "checkpoints", "fit": "backup"}  # the folder of what an engine continues from
