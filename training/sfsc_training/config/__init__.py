"""Recipes: everything that decides a training result, in one TOML file; an unknown key is an error."""

from sfsc_training.config.load import load_recipe, packaged_recipes, parse_recipe
from sfsc_training.config.methods import METHODS
from sfsc_training.config.recipe import Recipe
from sfsc_training.config.sections import (
    AggregationSection,
    AugmentationSection,
    DataSection,
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
    "load_recipe",
    "packaged_recipes",
    "parse_recipe",
]
