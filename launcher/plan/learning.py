"""What a run learns and how it is judged, in words: the method's share of the parameters, task, evaluation."""

from __future__ import annotations

from conf.record import Plan
from conf.schema import EvalStrategy, ProblemType, Quantization, RunConfig, TaskName
from launcher.show.units import count

_KINDS = {
    ProblemType.auto: "labels as the data has them",
    ProblemType.regression: "numbers",
    ProblemType.single_label_classification: "one label a text",
    ProblemType.multi_label_classification: "several labels a text",
}


def trained(plan: Plan) -> str:
    """Such as `trainable 1.2M of 8.03B (0.015 %), over weights in nf4`."""
    method, whole, some = plan.config.method, plan.parameters, plan.trainable_parameters
    if whole is None or some is None:
        said = "counted when the model is loaded" if method.peft or method.freeze or method.freeze_layers else ""
    elif some == whole:
        said = f"all {count(whole)} parameters"
    else:
        said = f"trainable {count(some)} of {count(whole)} ({100 * some / whole:.2g} %)"
    if method.quantization is not Quantization.none:
        said += f", over weights in {method.quantization.value}"
    return said


def task_line(config: RunConfig) -> str:
    """What is learned, beyond the task's name; empty where there is nothing to say."""
    task, data = config.task, config.data
    if task.name is TaskName.seq_cls:
        named = f"{len(task.labels)} labels" if task.labels else _KINDS[task.problem_type]
        weights = "weighted by how rare they are" if task.balance_classes else ""
        weights = f"weights of {', '.join(task.class_weights)}" if task.class_weights else weights
        return ", ".join(filter(None, (named, weights)))
    read = f"{data.max_length} tokens in, {data.max_target_length} out" if task.name is TaskName.seq2seq_lm else ""
    answers = task.name is TaskName.seq2seq_lm if task.predict_with_generate is None else task.predict_with_generate
    if not answers:
        return read
    first = f"the first {task.max_predictions} documents" if task.max_predictions else "every document"
    measured = " and ".join(metric.replace("_", " ") for metric in task.metrics or ["ROUGE", "exact_match"])
    return "; ".join(filter(None, (read, f"evaluations answer {first} for {measured}")))


def evaluation_line(config: RunConfig) -> str:
    """When a run is judged and what follows from it; empty where there is nothing to judge it by."""
    train, data = config.train, config.data
    if not (data.validation_file or data.validation_size or data.dataset_name):
        return ""
    when = {
        EvalStrategy.no: "at the end alone",
        EvalStrategy.steps: f"every {train.eval_steps} steps",
        EvalStrategy.epoch: "every epoch",
    }
    parts = [when[train.eval_strategy]]
    if train.load_best_model_at_end:
        parts.append(f"hands back the best model by {train.metric_for_best_model}")
    if train.early_stopping_patience:
        times = f"{train.early_stopping_patience} evaluation{'s' if train.early_stopping_patience > 1 else ''}"
        parts.append(f"ends after {times} without a better {train.metric_for_best_model}")
    return "; ".join(parts)
