"""The best model and early stopping without what they need: validation data, evaluations, a metric that exists."""

from __future__ import annotations

from collections.abc import Iterator

from conf.evaluation import metrics_of
from conf.schema import EvalStrategy, RunConfig
from launcher.problems import Problem, nearest


def evaluation_problems(config: RunConfig) -> Iterator[Problem]:
    """What is wrong with the keys about the best model and with a run that only evaluates."""
    train, data = config.train, config.data
    there = data.validation_file or data.validation_size or data.dataset_name
    wanted = {
        "train.load_best_model_at_end": ("true", "false", train.load_best_model_at_end),
        "train.early_stopping_patience": (str(train.early_stopping_patience), "0", train.early_stopping_patience > 0),
    }
    if train.max_steps == 0:
        if not (there or data.test_file or data.test_size):
            rule = "evaluates alone, and there is neither validation nor test data"
            yield Problem("train.max_steps", "0", rule, "data.test_file=test.jsonl")
        return
    for key, (value, off, given) in wanted.items():
        if given and not there:
            rule = "compares evaluations of the validation data, and there is none"
            yield Problem(key, value, rule, f"data.validation_size=0.05, {off}")
        elif given and train.eval_strategy is EvalStrategy.no:
            rule = "compares evaluations during training, and train.eval_strategy=no has none"
            yield Problem(key, value, rule, "train.eval_strategy=epoch")
    known = metrics_of(config.task)
    metric = train.metric_for_best_model.removeprefix("eval/")
    if metric not in known:
        rule = f"is no metric of task={config.task.name.value} as it is configured; there are {', '.join(known)}"
        yield Problem("train.metric_for_best_model", train.metric_for_best_model, rule, nearest(metric, known))
