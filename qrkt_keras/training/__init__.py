"""Recipes, checkpoints, scores, pictures, GANs' losses and measures, and the training job."""

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
from qrkt_keras.training.gan_losses import (
    GAN_LOSSES,
    GANLoss,
    drift_penalty,
    gradient_penalty,
)
from qrkt_keras.training.gan_measures import (
    KernelDistance,
    frechet_distance,
    inception_score,
    kernel_distance,
)
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
from qrkt_keras.training.tfgan import TFGANModules, tfgan_modules
from qrkt_keras.training.train import TrainingInterrupted, TrainingResult, fit

__all__ = [
    "GAN_LOSSES",
    "THESIS",
    "Checkpoint",
    "CheckpointError",
    "GANLoss",
    "KernelDistance",
    "ProgressBar",
    "Recipe",
    "Scores",
    "TFGANModules",
    "TrainingCheckpoint",
    "TrainingInterrupted",
    "TrainingResult",
    "ValidationScores",
    "atomic_write",
    "classification_scores",
    "confusion_picture",
    "drift_penalty",
    "fit",
    "frechet_distance",
    "generator_state",
    "gradient_penalty",
    "history_picture",
    "inception_score",
    "kernel_distance",
    "macro_auc",
    "make_predictor",
    "model_state",
    "probabilities_from_logits",
    "read_checkpoint",
    "restore_generator_state",
    "restore_model_state",
    "tfgan_modules",
    "warmup_cosine",
    "write_checkpoint",
]
