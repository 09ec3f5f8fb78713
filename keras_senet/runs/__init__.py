"""A work directory: which run it belongs to, what is in it, and how that is read and written."""

RECIPE = "recipe.json"  # with the engine, the environment and a digest of the images
METRICS = "metrics.csv"
NETWORK = "model.keras"
WEIGHTS = "model.weights.h5"  # and how images are prepared, which `model.keras` does not say
BEST = "best.weights.h5"  # of the epoch that validation images choose
REPORT = "report.json"
STATES = {"trainer": "checkpoints", "fit": "backup"}  # the folder of what an engine continues from
