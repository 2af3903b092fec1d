"""Recipes, checkpoints, scores, pictures, and the training job that ties them together."""

from qrkt_keras.training.checkpoints import (
    Checkpoint,
    CheckpointError,
    TrainingCheckpoint,
    generator_state,
    model_state,
    read_checkpoint,
    restore_generator_state,
    restore_model_state,
    write_checkpoint,
)
from qrkt_keras.training.evaluation import ValidationScores, make_predictor
from qrkt_keras.training.files import atomic_write
from qrkt_keras.training.metrics import (
    Scores,
    classification_scores,
    macro_auc,
    probabilities_from_logits,
)
from qrkt_keras.training.progress import ProgressBar
from qrkt_keras.training.recipes import THESIS, Recipe
from qrkt_keras.training.reports import confusion_picture, history_picture
from qrkt_keras.training.schedules import warmup_cosine
from qrkt_keras.training.train import TrainingInterrupted, TrainingResult, fit

__all__ = [
    "THESIS",
    "Checkpoint",
    "CheckpointError",
    "ProgressBar",
    "Recipe",
    "Scores",
    "TrainingCheckpoint",
    "TrainingInterrupted",
    "TrainingResult",
    "ValidationScores",
    "atomic_write",
    "classification_scores",
    "confusion_picture",
    "fit",
    "generator_state",
    "history_picture",
    "macro_auc",
    "make_predictor",
    "model_state",
    "probabilities_from_logits",
    "read_checkpoint",
    "restore_generator_state",
    "restore_model_state",
    "warmup_cosine",
    "write_checkpoint",
]
