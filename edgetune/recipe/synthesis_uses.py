"""Which keys of the section `synthesize` are read under which settings."""

from __future__ import annotations

from edgetune.recipe.use import Use, one_of

_ENDPOINT = Use(lambda recipe: recipe.synthesize.endpoint is not None, "a synthesize.endpoint")
_ROUND_TRIP = Use(
    lambda recipe: recipe.synthesize.validators.round_trip, "synthesize.validators.round_trip: true"
)

#: By the key's name in the section.
SYNTHESIS_USES: dict[str, Use] = {
    **dict.fromkeys(
        ("model", "key_env", "concurrency", "timeout", "retries", "max_requests"), _ENDPOINT
    ),
    "failures_of": Use(
        lambda recipe: recipe.synthesize.seeds_from == "failures", "synthesize.from: failures"
    ),
    "examples": Use(
        lambda recipe: (
            recipe.synthesize.task == "instructions" or recipe.synthesize.template.ask is not None
        ),
        "synthesize.task: instructions, or a synthesize.template.ask",
    ),
    "compare": Use(lambda recipe: recipe.tune is not None, "a section tune"),
    "rank": one_of("synthesize", "task", "preferences"),
    "template.ask": one_of("synthesize", "task", "answers", "paraphrases", "instructions"),
    "template.check": _ROUND_TRIP,
    "validators.checker": _ROUND_TRIP,
    "validators.similarity": Use(
        lambda recipe: (
            recipe.synthesize.validators.leakage or recipe.synthesize.validators.duplicate
        ),
        "synthesize.validators.leakage or duplicate: true",
    ),
    "validators.samples": Use(
        lambda recipe: recipe.synthesize.validators.agreement is not None,
        "a synthesize.validators.agreement",
    ),
}
#: Keys that are read whatever else is set.
SYNTHESIS_ALWAYS = (
    "from task teacher endpoint prompts count temperature top_p max_new_tokens batch_size "
    "price_per_million_tokens validators.json_schema validators.regex validators.labels "
    "validators.min_characters validators.max_characters validators.language "
    "validators.duplicate validators.leakage validators.agreement validators.round_trip"
)
