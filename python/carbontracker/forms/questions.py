"""Questions to the user that several forms share: one answer serves them all."""

from __future__ import annotations

from carbontracker.forms.form import Question

MODEL_NAME = Question("model_name", "Name of the model.", "my-model-7b")
MODEL_VERSION = Question("model_version", "Version of the model.", "1.0")
ORGANIZATION = Question("organization", "Who trained the model: name of the organization.", "ACME")
STAGE = Question(
    "stage",
    "What the runs were.",
    "pretraining",
    ("pretraining", "fine-tuning", "evaluation", "development"),
)
LOCATION = Question(
    "location", "Where the machines stand, as exactly as you may say.", "Paris, France"
)
TRAINING_FLOPS = Question(
    "training_flops", "Floating-point operations of the training, in all.", 1.5e21
)
TRAINING_TOKENS = Question("training_tokens", "Tokens that the training has read.", 1.0e12)
PARAMETERS = Question("parameters", "Number of parameters of the model.", 7.0e9)
LIFETIME_YEARS = Question(
    "lifetime_years",
    "Years for which the accelerators are used in all, in your accounts.",
    5,
    divides=True,
)
EMBODIED = Question(
    "embodied_gco2eq",
    "gCO2eq of the production of the hardware, the share of these runs; or lifetime_years.",
    700.0,
)
EMBODIED_KG = Question(
    "embodied_kg_per_accelerator", "kgCO2eq of the production of one accelerator.", 164
)
UNIT = Question("functional_unit", "What one unit of the work is.", "1000 tokens")
UNITS = Question(
    "functional_units", "How many such units these runs have done.", 1.2e6, divides=True
)
CLOUD_PROVIDER = Question("cloud_provider", "Provider of the cloud, if it was one.", "aws")
CLOUD_REGION = Question("cloud_region", "Region of the cloud, if it was one.", "eu-north-1")
