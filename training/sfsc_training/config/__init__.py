"""Recipes: everything that decides a training result, in one TOML file; an unknown key is an error."""

from sfsc_training.config.difference import differences, network_differences
from sfsc_training.config.load import change_recipe, load_recipe, packaged_recipes, parse_recipe, purpose
from sfsc_training.config.methods import METHODS
from sfsc_training.config.recipe import Recipe
from sfsc_training.config.sections import (
    AggregationSection,
    AugmentationSection,
    DataSection,
    Divergence,
    EarlyStoppingSection,
    EvidenceFunction,
    EvidentialSection,
    LossSection,
    NetworkSection,
    OptimiserSection,
    SamplerSection,
    TeacherSection,
    VehiclesSection,
    WeightsName,
)

__all__ = [
    "METHODS",
    "AggregationSection",
    "AugmentationSection",
    "DataSection",
    "Divergence",
    "EarlyStoppingSection",
    "EvidenceFunction",
    "EvidentialSection",
    "LossSection",
    "NetworkSection",
    "OptimiserSection",
    "Recipe",
    "SamplerSection",
    "TeacherSection",
    "VehiclesSection",
    "WeightsName",
    "change_recipe",
    "differences",
    "load_recipe",
    "network_differences",
    "packaged_recipes",
    "parse_recipe",
    "purpose",
]
