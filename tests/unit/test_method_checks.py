"""What a method excludes is refused before anything queues, with the key, the rule and what would do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conf.schema import Offload, Quantization, RunConfig, TaskName
from launcher.check.method import method_problems
from launcher.facts.facts import Facts, ModelFacts
from launcher.plan.plan import resolve_packing

LORA = {"peft_type": "LORA", "r": 8, "target_modules": "all-linear"}
Change = Callable[[RunConfig], None]


def configured(*changes: Change) -> RunConfig:
    config = RunConfig()
    for change in changes:
        change(config)
    return config


def problems(config: RunConfig, kind: str = "llama") -> list[tuple[str, str]]:
    facts = Facts(
        cwd="/here",
        run_root="/here/runs",
        python="/usr/bin/python3",
        cpu_count=2,
        model=ModelFacts(config={"model_type": kind, "num_hidden_layers": 4, "max_position_embeddings": 1030}),
    )
    return [(problem.key, problem.nearest) for problem in method_problems(config, facts)]


def peft(**keys: object) -> Change:
    return lambda config: config.method.peft.update({**LORA, **keys})


def stage(number: int) -> Change:
    return lambda config: setattr(config.parallel, "zero_stage", number)


def quantized(kind: str) -> Change:
    return lambda config: setattr(config.method, "quantization", Quantization(kind))


def labels(config: RunConfig) -> None:
    config.task.name = TaskName.seq_cls


CASES: dict[str, tuple[list[Change], list[tuple[str, str]]]] = {
    "lora under zero3": ([peft(), stage(3)], []),
    "qlora under zero3": ([peft(), quantized("nf4"), stage(3)], []),
    "8 bits under zero2": ([peft(), quantized("int8"), stage(2)], []),
    "8 bits under zero3": (
        [peft(), quantized("int8"), stage(3)],
        [("parallel.zero_stage", "parallel=zero2, method.quantization=nf4")],
    ),
    "4 bits without an adapter": ([quantized("nf4")], [("method.quantization", "method=qlora, none")]),
    "4 bits in host memory": (
        [peft(), quantized("nf4"), stage(3), lambda config: setattr(config.parallel, "offload_param", Offload.cpu)],
        [("parallel.offload_param", "parallel=zero3")],
    ),
    "pissa under zero3": (
        [peft(init_lora_weights="pissa_niter_4"), stage(3)],
        [("method.peft.init_lora_weights", "true, parallel=zero2")],
    ),
    "pissa under zero2": ([peft(init_lora_weights="pissa"), stage(2)], []),
    "eva": ([peft(init_lora_weights="eva"), stage(0)], [("method.peft.init_lora_weights", "true, pissa")]),
    "no rank": ([peft(r=0), stage(2)], [("method.peft.r", "16")]),
    "adalora": ([peft(peft_type="ADALORA"), stage(2)], [("method.peft.peft_type", "LORA")]),
    "delora under zero3": (
        [peft(peft_type="DELORA"), stage(3)],
        [("parallel.zero_stage", "parallel=zero2, method=lora")],
    ),
    "unfreeze beside an adapter": (
        [peft(), stage(2), lambda config: config.method.unfreeze.append("*norm*")],
        [("method.unfreeze", "method.peft.modules_to_save=[…]")],
    ),
    "too many layers": (
        [lambda config: setattr(config.method, "freeze_layers", 5)],
        [("method.freeze_layers", "3")],
    ),
    "everything frozen": (
        [lambda config: config.method.freeze.append("*")],
        [("method.freeze", "method.unfreeze=['*head*']")],
    ),
    "virtual tokens beyond the positions": (
        [peft(peft_type="PROMPT_TUNING", num_virtual_tokens=20), stage(2)],
        [("data.max_length", "1010")],
    ),
    **{
        f"{kind} before labels": (
            [peft(peft_type=kind, num_virtual_tokens=4), stage(2), labels],
            [("method.peft.peft_type", "method=prefix_tuning, method=lora")],
        )
        for kind in ("PROMPT_TUNING", "P_TUNING")
    },
    "prefixes before labels": ([peft(peft_type="PREFIX_TUNING", num_virtual_tokens=4), stage(2), labels], []),
    "a learning rate below 0": (
        [lambda config: config.optim.learning_rates.update({"*": -1.0})],
        [("optim.learning_rates.*", "")],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_go_together_is_refused(name: str) -> None:
    changes, expected = CASES[name]
    assert problems(configured(*changes)) == expected


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_an_encoder_s_head_reads_no_padding_behind_virtual_tokens(kind: str) -> None:
    assert problems(configured(peft(peft_type="PROMPT_TUNING", num_virtual_tokens=4), stage(2), labels), kind) == []


def test_documents_are_not_packed_behind_virtual_tokens() -> None:
    assert resolve_packing(configured(peft()), "llama")[0] == "exact"
    packing, why = resolve_packing(configured(peft(peft_type="P_TUNING", num_virtual_tokens=4)), "llama")
    assert packing == "none"
    assert "puts learned tokens before each document" in why


SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
SIZES |= {"num_key_value_heads": 2, "vocab_size": 512}


def pattern_problems(config: RunConfig, model_type: str = "llama") -> list[tuple[str, str, str]]:
    facts = Facts(model=ModelFacts(config={"model_type": model_type, **SIZES}))
    return [(problem.key, problem.value, problem.nearest) for problem in method_problems(config, facts)]


@pytest.mark.parametrize(
    ("targets", "value", "near"),
    [
        (["qproj"], "qproj", "[q_proj]"),
        ("q_proj", "q_proj", "[q_proj]"),
        (["nix"], "nix", "[q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]"),
        ("(q_proj", "(q_proj", "[q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]"),
    ],
    ids=["misspelled", "a bare name", "like nothing", "no pattern"],
)
def test_layers_that_the_model_does_not_have_are_refused(targets: object, value: str, near: str) -> None:
    config = configured(peft(target_modules=targets), stage(2))
    assert pattern_problems(config) == [("method.peft.target_modules", value, near)]
    assert pattern_problems(config, "unheard_of") == []


@pytest.mark.parametrize(
    "targets",
    [
        "all-linear",
        ".*q_proj",
        ["q_proj"],
        ["q_proj", "query_key_value"],
        ["layers.3.mlp.up_proj"],
        ["embed_tokens"],
        ["lm_head"],
        [],
        None,
    ],
    ids=str,
)
def test_layers_that_the_model_has_are_right(targets: object) -> None:
    for tied in (False, True):
        facts = Facts(model=ModelFacts(config={"model_type": "llama", **SIZES, "tie_word_embeddings": tied}))
        assert list(method_problems(configured(peft(target_modules=targets), stage(2)), facts)) == []


def test_patterns_of_parameters_that_are_not_there_are_refused() -> None:
    def changed(config: RunConfig) -> None:
        config.method.freeze = ["*embed*", "embed_token", "nix"]
        config.method.unfreeze = ["*.q_prj.*"]
        config.optim.learning_rates = {"*norm*": 1.0, "*lm_heed*": 1.0}

    config = configured(changed)
    (tokens, nothing, query, head) = pattern_problems(config)
    assert tokens == ("method.freeze", "embed_token", "*embed_tokens*")
    assert nothing[:2] == ("method.freeze", "nix")
    assert "*gate_proj*" in nothing[2]
    assert query[:2] == ("method.unfreeze", "*.q_prj.*")
    assert query[2].startswith("*q_proj*")
    assert head == ("optim.learning_rates", "*lm_heed*", "*lm_head*")
    assert pattern_problems(config, "unheard_of") == []


@pytest.mark.parametrize("keys", [{"lora_dropout": 0.05}, {"use_dora": True}, {}], ids=["dropout", "dora", "plain"])
@pytest.mark.parametrize("targets", ["all-linear", ["q_proj"], ["w2", "q_proj"]], ids=str)
def test_what_peft_refuses_of_experts_is_refused_before(keys: dict[str, object], targets: object) -> None:
    from tests.unit.test_shapes import GROUPED, made
    from train.methods.adapter import AdapterError, add_adapter

    adapter = {**LORA, "target_modules": targets, **keys}
    model = made(TaskName.causal_lm, "mixtral", {**GROUPED, "num_local_experts": 3})
    try:
        add_adapter(model, adapter, TaskName.causal_lm, 0)
        refused = False
    except AdapterError:
        refused = True
    found = [key for key, _ in problems(configured(peft(**adapter)), "mixtral")]
    assert found == [f"method.peft.{key}" for key in keys if refused]
    assert bool(found) == refused
