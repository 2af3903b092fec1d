"""Recipes, checkpoints, scores, pictures, GANs' losses and measures, strategies, and the jobs."""

from qrkt_keras.training.augmentation import augmented_batches
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
from qrkt_keras.training.cross_validation import CrossValidationResult, cross_validate
from qrkt_keras.training.evaluation import EpochScores, make_predictor
from qrkt_keras.training.files import atomic_write, lock_folder
from qrkt_keras.training.gan_evaluation import FeatureExtractor, GANMeasures, measure_images
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
from qrkt_keras.training.grids import SampleGrids, grid_picture, image_grid
from qrkt_keras.training.inception import InceptionError, InceptionFeatures
from qrkt_keras.training.job import TrainingInterrupted
from qrkt_keras.training.metrics import (
    Scores,
    classification_scores,
    macro_auc,
    probabilities_from_logits,
)
from qrkt_keras.training.optimizers import L2SGD, L2Adam
from qrkt_keras.training.progress import ProgressBar
from qrkt_keras.training.recipes import THESIS, Augmentation, GANRecipe, Recipe
from qrkt_keras.training.reports import (
    comparison_picture,
    confusion_picture,
    folds_picture,
    history_picture,
    roc_picture,
)
from qrkt_keras.training.schedules import (
    EpochCosine,
    Plateau,
    Triangular,
    WarmUp,
    plateau_factor,
    warmup_cosine,
)
from qrkt_keras.training.snapshots import read_trajectory
from qrkt_keras.training.strategies import STRATEGIES, WorkerLostError, is_chief, make_strategy
from qrkt_keras.training.tfgan import TFGANModules, tfgan_modules
from qrkt_keras.training.train import TrainingResult, fit
from qrkt_keras.training.train_gan import GANResult, fit_gan

__all__ = [
    "Augmentation",
    "Checkpoint",
    "CheckpointError",
    "CrossValidationResult",
    "EpochCosine",
    "EpochScores",
    "FeatureExtractor",
    "GANLoss",
    "GANMeasures",
    "GANRecipe",
    "GANResult",
    "GAN_LOSSES",
    "InceptionError",
    "InceptionFeatures",
    "KernelDistance",
    "L2Adam",
    "L2SGD",
    "Plateau",
    "ProgressBar",
    "Recipe",
    "STRATEGIES",
    "SampleGrids",
    "Scores",
    "TFGANModules",
    "THESIS",
    "TrainingCheckpoint",
    "TrainingInterrupted",
    "TrainingResult",
    "Triangular",
    "WarmUp",
    "WorkerLostError",
    "atomic_write",
    "augmented_batches",
    "classification_scores",
    "comparison_picture",
    "confusion_picture",
    "cross_validate",
    "drift_penalty",
    "fit",
    "fit_gan",
    "folds_picture",
    "frechet_distance",
    "generator_state",
    "gradient_penalty",
    "grid_picture",
    "history_picture",
    "image_grid",
    "inception_score",
    "is_chief",
    "kernel_distance",
    "lock_folder",
    "macro_auc",
    "make_predictor",
    "make_strategy",
    "measure_images",
    "model_state",
    "plateau_factor",
    "probabilities_from_logits",
    "read_checkpoint",
    "read_trajectory",
    "restore_generator_state",
    "restore_model_state",
    "roc_picture",
    "tfgan_modules",
    "warmup_cosine",
    "write_checkpoint",
]
