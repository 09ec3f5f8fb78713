"""A work directory: which run it belongs to, what is in it, and how that is read and written."""

from keras_senet.files import RECIPE_FILE

RECIPE = RECIPE_FILE  # with the engine, the environment, the classes and a digest of the images
METRICS = "metrics.csv"
NETWORK = "model.keras"
WEIGHTS = "model.weights.h5"
BEST = "best.weights.h5"  # of the best epoch so far
MODEL = "model.safetensors"  # a trained detector
BEST_MODEL = "best.safetensors"  # of the best epoch so far
RESULTS = "results.json"  # detections in COCO's format of results
REPORT = "report.json"
SPLIT = "split.csv"  # how images were divided into training and validation images, if they were
PER_CLASS = "per_class.csv"  # of the last evaluation
STATES = {"trainer": "checkpoints", "fit": "backup"}  # the folder of what an engine continues from
CLASSIFICATION = "classification"  # what a run trains, as `recipe.json` says
DETECTION = "detection"
