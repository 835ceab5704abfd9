"""Tied weights that a file stores more than once: old files of T5, BART and Whisper."""

import pytest
import torch

import weightscope
from tests.parity.cases import CASES
from tests.parity.models import build
from tests.parity.test_families import assert_same_weights
from tests.parity.test_old_spellings import rewritten
from tests.parity.test_towers import case_of, renamed

EMBEDDINGS = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")


@pytest.mark.parametrize(("name", "prefix"), [("t5_with_head", ""), ("bart_with_head", "model.")])
def test_tied_weights_of_old_files_are_said_once(tmp_path, name, prefix):
    shared = f"{prefix}shared.weight"
    case = case_of(name)
    weight = build(case).get_parameter(shared).detach()
    copies = [f"{prefix}{EMBEDDINGS[0]}", f"{prefix}{EMBEDDINGS[1]}", EMBEDDINGS[2]]
    model, folder = rewritten(tmp_path, case, extra={copy: weight.clone() for copy in copies})
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert_same_weights(checkpoint, model, case)
        assert [m.parameter for m in checkpoint.matrices if m.group in ("embedding", "unembedding")] == [
            shared
        ]
        tied = {(e.tensor.name, e.reason) for e in checkpoint.skipped if e.kind == "tied"}
        assert tied == {(copy, f"tied to {shared}") for copy in copies}
    once = weightscope.inspect(tmp_path / "new").parameters
    assert weightscope.inspect(folder).parameters == once
    analysis = weightscope.analyze(folder, groups="all")
    assert analysis.summary["coverage"]["skipped"] == analysis.summary["coverage"]["harmless"]


def test_whispers_output_head_is_its_embedding(tmp_path):
    case = case_of("whisper_with_head")
    weight = build(case).get_parameter("model.decoder.embed_tokens.weight").detach()
    _, folder = rewritten(tmp_path, case, extra={"proj_out.weight": weight.clone()})
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert [(e.tensor.name, e.kind) for e in checkpoint.skipped] == [("proj_out.weight", "tied")]


def test_a_copy_of_a_copy_needs_no_original(tmp_path):
    case = case_of("bart_with_head")
    rename = renamed((r"^model\.shared", "model.encoder.embed_tokens"))
    weight = build(case).get_parameter("model.shared.weight").detach()
    _, folder = rewritten(tmp_path, case, rename, extra={"model.decoder.embed_tokens.weight": weight.clone()})
    with weightscope.open_checkpoint(folder) as checkpoint:
        (entry,) = (entry for entry in checkpoint.skipped if entry.kind == "tied")
        assert entry.reason == "tied to model.encoder.embed_tokens.weight"


@pytest.mark.parametrize(
    "config", [lambda stated: {**stated, "tie_word_embeddings": False}, lambda stated: {}]
)
def test_an_output_head_that_may_be_another_is_analysed(tmp_path, config):
    """v1.1 has one of its own, which transformers 5.23 does not load as such."""
    case = case_of("t5_gated_with_head")
    head = torch.randn(31, 24)
    _, folder = rewritten(tmp_path, case, config=config, extra={"lm_head.weight": head})
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert torch.equal(checkpoint.matrix(group="unembedding"), head)
        assert not checkpoint.skipped


def test_embeddings_of_other_shapes_are_no_copies(tmp_path):
    own = {"model.decoder.embed_tokens.weight": torch.randn(29, 24)}
    _, folder = rewritten(tmp_path, case_of("bart_with_head"), extra=own)
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert {m.parameter for m in checkpoint.matrices if m.group == "embedding"} == {
            "model.shared.weight",
            *own,
        }


@pytest.mark.parametrize("name", ["llama_with_head", "gpt2_with_head", "phi3_with_head", "bert_with_head"])
@pytest.mark.parametrize("tied", [True, False, None])
def test_a_stored_head_is_a_copy_where_the_config_ties_it(tmp_path, name, tied):
    """As transformers 5.23 takes it: the model that it loads has the embedding for its head."""
    case = next(case for case in CASES if case.name == name)
    model = build(case)
    owner = model.get_input_embeddings().weight.detach()
    head = "cls.predictions.decoder.weight" if name == "bert_with_head" else "lm_head.weight"

    def config(stated):
        return {**{k: v for k, v in stated.items() if k != "tie_word_embeddings"}} | (
            {} if tied is None else {"tie_word_embeddings": tied}
        )

    _, folder = rewritten(tmp_path, case, config=config, extra={head: owner.clone()})
    with weightscope.open_checkpoint(folder) as checkpoint:
        copies = [entry.tensor.name for entry in checkpoint.skipped if entry.kind == "tied"]
        heads = [m.parameter for m in checkpoint.matrices if m.group == "unembedding"]
    assert (copies, heads) == (([head], []) if tied else ([], [head]))
