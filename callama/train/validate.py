"""Loss on the validation data, of the adapted model as it is: nothing is merged, at any stage of ZeRO."""

from __future__ import annotations

import torch

from callama.data.pack import Sizes, collate, plan, spread
from callama.train.config import TrainConfig
from callama.train.engine import Engine, shares
from callama.train.setup import Run
from callama.train.watch import Sums


@torch.no_grad()
def validate(config: TrainConfig, run: Run, engine: Engine) -> Sums:
    """Loss and accuracy on ``validation.steps`` batches, evenly spread over the validation data, dropout off."""
    assert run.validation_data is not None
    sums, budget = Sums(), config.validation.batch_size * config.model.max_seq_len
    batches = plan(Sizes.of(run.validation_data), range(len(run.validation_data)), budget)
    run.model.eval()
    for indices, counts in shares(spread(batches, config.validation.steps), engine):
        result = engine.loss(collate(run.validation_data, indices).to(run.device))
        if counts:
            sums.add(result)
    run.model.train()
    return sums.over(engine.total)
