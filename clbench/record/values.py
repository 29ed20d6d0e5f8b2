"""What a record's fields may hold, and how large it may be."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

#: More tasks would make matrices of any size; ImageNet-21k in tasks of ten classes fits.
TASKS = 2_200

Text = Annotated[str, StringConstraints(max_length=10_000)]
MetricName = Annotated[str, StringConstraints(max_length=100)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
#: As it was written: 1 stays 1, and 1.0 stays 1.0.
Number = (
    Annotated[int, Field(ge=-(10**18), le=10**18)]
    | Annotated[float, Field(ge=-1e18, le=1e18, allow_inf_nan=False)]
)
Amount = (
    Annotated[int, Field(ge=0, le=10**18)]
    | Annotated[float, Field(ge=0, le=1e18, allow_inf_nan=False)]
)
Operations = Annotated[float, Field(ge=0, le=1e30, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Pair = Annotated[list[Count], Field(min_length=2, max_length=2)]
Index = Annotated[int, Field(ge=0, lt=TASKS)]
Scenario = Literal["task_incremental", "class_incremental"]


#: Of a task.
Part = Literal["prepare", "fit", "finish", "deploy", "test", "retention", "representation"]
