"""What each command takes, as data: the flags, their help and their checks come from here."""

from keras_senet.cli.options.detection import (
    DetectConvertOptions,
    DetectEvaluateOptions,
    DetectExportOptions,
    DetectPredictOptions,
    DetectTrainOptions,
    ScenesOptions,
)
from keras_senet.cli.options.export import ExportOptions
from keras_senet.cli.options.networks import (
    ConvertOptions,
    EvaluateOptions,
    ExcitationsOptions,
    ListOptions,
    PredictOptions,
    PruneOptions,
    SummaryOptions,
)
from keras_senet.cli.options.shared import Options
from keras_senet.cli.options.training import (
    AblateOptions,
    CurvesOptions,
    DataOptions,
    QuickstartOptions,
    ReportOptions,
    TrainOptions,
)

CLASSES: dict[str, type[Options]] = {
    "quickstart": QuickstartOptions,
    "list": ListOptions,
    "summary": SummaryOptions,
    "data": DataOptions,
    "train": TrainOptions,
    "evaluate": EvaluateOptions,
    "curves": CurvesOptions,
    "predict": PredictOptions,
    "convert": ConvertOptions,
    "excitations": ExcitationsOptions,
    "ablate": AblateOptions,
    "prune": PruneOptions,
    "report": ReportOptions,
    "export": ExportOptions,
    "detect train": DetectTrainOptions,
    "detect evaluate": DetectEvaluateOptions,
    "detect predict": DetectPredictOptions,
    "detect export": DetectExportOptions,
    "detect scenes": ScenesOptions,
    "detect convert": DetectConvertOptions,
}
