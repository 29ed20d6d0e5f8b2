"""Methods of a kind, by their names: for methods that go with none of it."""

#: Put prompts into a frozen vision transformer.
PROMPTS = ("l2p", "dualprompt", "coda_prompt")
#: Train low-rank updates of frozen weights.
LOW_RANK = ("lora", "inflora", "sd_lora")
