"""Models of torch's own modules, without any config: judged by what those modules compute."""

from unittest import mock

import pytest
import torch
from torch import nn

import weightscope
from tests.factories import write_checkpoint

WIDTH, HEADS, INNER = 12, 2, 20
LAYER = {"d_model": WIDTH, "nhead": HEADS, "dim_feedforward": INNER, "dropout": 0.0, "batch_first": True}


@torch.no_grad()
def received(attention, *inputs):
    """Q, K and V by head, as the module hands them to the attention proper."""
    for name, bias in attention.named_parameters():
        if "bias" in name:
            bias.zero_()
    proper = nn.functional.scaled_dot_product_attention
    with mock.patch.object(nn.functional, "scaled_dot_product_attention", side_effect=proper) as called:
        attention.train()(*inputs, need_weights=False)  # a trained one is computed in one fused step
    return dict(zip("QKV", called.call_args.args[:3], strict=True))


def assert_attention(checkpoint, attention, kind="self", **place):
    """The matrices at a place project what goes in to what this module's attention receives."""
    query, key, value = (
        torch.randn(1, length, width)
        for length, width in ((4, attention.embed_dim), (5, attention.kdim), (5, attention.vdim))
    )
    if attention.batch_first is False:
        query, key, value = (x.transpose(0, 1) for x in (query, key, value))
    for group, heads in received(attention, query, key, value).items():
        weight = checkpoint.matrix(**place, attention_kind=kind, group=group)
        x = {"Q": query, "K": key, "V": value}[group]
        x = x if attention.batch_first else x.transpose(0, 1)
        by_head = (x @ weight.T).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        torch.testing.assert_close(heads[:, :, : by_head.shape[2]], by_head, rtol=1e-4, atol=1e-5)
    found = checkpoint.matrix(**place, attention_kind=kind, group="O")
    assert torch.equal(found, attention.out_proj.weight)


def saved(folder, module):
    return write_checkpoint(folder, module.state_dict())


def both(folder, module):
    """The saved file and the live module, which mean the same."""
    yield weightscope.open_checkpoint(saved(folder, module))
    yield weightscope.open_checkpoint(module)
    yield weightscope.open_checkpoint(module.state_dict())


def groups(checkpoint):
    return {str(matrix.group) for matrix in checkpoint.matrices}


def assert_complete(checkpoint):
    used = {part.tensor.name for matrix in checkpoint.matrices for part in matrix.slices}
    skipped = {entry.tensor.name for entry in checkpoint.skipped}
    assert used | skipped == {n for n, info in checkpoint.tensors.items() if len(info.shape) >= 2}
    assert not used & skipped


def test_encoder(tmp_path):
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(**LAYER), 2, enable_nested_tensor=False)
    for checkpoint in both(tmp_path, model):
        assert checkpoint.detection.spec.name == "unknown"
        assert (
            "layers.{layer}.self_attn.in_proj_weight -> QKV (contiguous_thirds)"
            in checkpoint.detection.guesses
        )
        for number, layer in enumerate(model.layers):
            place = {"layer": number, "stack": "encoder"}
            assert_attention(checkpoint, layer.self_attn, **place)
            assert torch.equal(checkpoint.matrix(group="M1", **place), layer.linear1.weight)
            assert torch.equal(checkpoint.matrix(group="M2", **place), layer.linear2.weight)
            assert torch.equal(checkpoint.matrix(group="QKV", **place), layer.self_attn.in_proj_weight)
        assert_complete(checkpoint)
        assert len(checkpoint.detection.guesses) == 4


class Translator(nn.Module):
    """As its users write it: embeddings and a head around `nn.Transformer`."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(31, WIDTH)
        self.transformer = nn.Transformer(**LAYER, num_encoder_layers=2, num_decoder_layers=3)
        self.generator = nn.Linear(WIDTH, 31)


@pytest.mark.parametrize("alone", [True, False])
def test_transformer(tmp_path, alone):
    model = Translator()
    transformer = model.transformer
    for checkpoint in both(tmp_path, transformer if alone else model):
        for number, layer in enumerate(transformer.encoder.layers):
            assert_attention(checkpoint, layer.self_attn, stack="encoder", layer=number)
        for number, layer in enumerate(transformer.decoder.layers):
            place = {"stack": "decoder", "layer": number}
            assert_attention(checkpoint, layer.self_attn, **place)
            assert_attention(checkpoint, layer.multihead_attn, "cross", **place)
            assert torch.equal(checkpoint.matrix(group="M2", **place), layer.linear2.weight)
        crossing = {str(m.group) for m in checkpoint.matrices if m.attention_kind == "cross"}
        assert crossing == {"Q", "K", "V", "O"}
        in_layers = [m for m in checkpoint.matrices if m.layer is not None]
        assert len(in_layers) == 2 * 7 + 3 * 11
        others = [m.parameter for m in checkpoint.matrices if str(m.group) == "other"]
        assert others == ([] if alone else ["generator.weight"])
        assert_complete(checkpoint)


@pytest.mark.parametrize("options", [{}, {"add_bias_kv": True}, {"kdim": 8, "vdim": 6}], ids=str)
def test_one_attention(tmp_path, options):
    """Without a layer; with keys and values of other widths it is cross attention. bias_k is no weight."""
    model = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, **options)
    for checkpoint in both(tmp_path, model):
        kind = "cross" if "kdim" in options else "self"
        assert_attention(checkpoint, model, kind, layer=None)
        assert ("QKV" in groups(checkpoint)) is ("kdim" not in options)
        reasons = {entry.tensor.name: entry.reason for entry in checkpoint.skipped}
        vectors = ["bias_k", "bias_v"] if "add_bias_kv" in options else []
        assert reasons == dict.fromkeys(vectors, "a vector kept in three dimensions")
        assert_complete(checkpoint)


def test_one_layer(tmp_path):
    model = nn.TransformerDecoderLayer(**LAYER)
    for checkpoint in both(tmp_path, model):
        assert_attention(checkpoint, model.self_attn, layer=None)
        assert_attention(checkpoint, model.multihead_attn, "cross", layer=None)
        assert torch.equal(checkpoint.matrix(group="M1"), model.linear1.weight)


def test_attentions_of_several_widths_outside_layers(tmp_path):
    """What one output projection reads says nothing of another's queries."""
    model = nn.ModuleDict({"a": nn.MultiheadAttention(12, 3), "b": nn.MultiheadAttention(8, 2)})
    with weightscope.open_checkpoint(saved(tmp_path, model)) as checkpoint:
        for name, attention in model.items():
            by_name = [m for m in checkpoint.matrices if m.parameter == f"{name}.in_proj_weight"]
            heights = {"Q": 1, "K": 1, "V": 1, "QKV": 3}
            width = attention.embed_dim
            assert {str(m.group): m.shape[0] // width for m in by_name} == heights
        assert_complete(checkpoint)


def test_two_attentions_in_one_layer_leave_the_second_whole(tmp_path):
    block = nn.ModuleDict({"one": nn.MultiheadAttention(12, 3), "two": nn.MultiheadAttention(8, 2)})
    model = nn.ModuleDict({"blocks": nn.ModuleList([block])})
    with weightscope.open_checkpoint(saved(tmp_path, model)) as checkpoint:
        others = [m for m in checkpoint.matrices if str(m.group) == "other"]
        assert [(m.parameter, m.shape) for m in others] == [
            ("blocks.0.two.in_proj_weight", (24, 8)), ("blocks.0.two.out_proj.weight", (8, 8)),
        ]  # fmt: skip
        assert_complete(checkpoint)


def test_a_fused_weight_of_another_height_stays_whole(tmp_path):
    state = {f"layers.{i}.attn.in_proj_weight": torch.randn(rows, 8) for i, rows in enumerate((24, 25, 24))}
    with weightscope.open_checkpoint(write_checkpoint(tmp_path, state)) as checkpoint:
        assert groups(checkpoint) == {"QKV"}


def test_an_only_attention_called_multihead_attn_is_no_cross_attention(tmp_path):
    model = nn.ModuleDict(
        {"blocks": nn.ModuleList([nn.ModuleDict({"multihead_attn": nn.MultiheadAttention(12, 3)})])}
    )
    with weightscope.open_checkpoint(saved(tmp_path, model)) as checkpoint:
        assert_attention(checkpoint, model["blocks"][0]["multihead_attn"], layer=0)


RECURRENT = {
    "lstm": nn.LSTM(5, 7, num_layers=2, bidirectional=True),
    "projected": nn.LSTM(5, 7, proj_size=3),
    "gru": nn.GRU(5, 7, bidirectional=True),
    "rnn": nn.RNN(5, 7),
    "cell": nn.LSTMCell(5, 7),
}


@pytest.mark.parametrize("prefix", ["", "attention.", "layers.0."])
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_weights_have_no_role(tmp_path, name, prefix):
    state = {f"{prefix}{key}": tensor for key, tensor in RECURRENT[name].state_dict().items()}
    with weightscope.open_checkpoint(write_checkpoint(tmp_path, state)) as checkpoint:
        assert groups(checkpoint) == {"other"}
        expected = {key: tuple(tensor.shape) for key, tensor in state.items() if tensor.dim() == 2}
        assert {m.parameter: m.shape for m in checkpoint.matrices} == expected
        for key, tensor in state.items():
            if tensor.dim() == 2:
                assert torch.equal(checkpoint.matrix(parameter=key), tensor)


CONVOLUTIONS = {
    "1d": nn.Conv1d(4, 6, 5),
    "2d": nn.Conv2d(4, 6, (3, 5)),
    "3d": nn.Conv3d(4, 6, (2, 3, 4)),
    "grouped": nn.Conv2d(4, 6, 3, groups=2),
    "depthwise": nn.Conv1d(4, 4, 3, groups=4),
    "no_bias": nn.Conv1d(4, 6, 5, bias=False),
    "to_one": nn.Conv1d(4, 1, 3),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(tmp_path, name):
    """Each output feature is the product of a row and what the kernel sees of its inputs."""
    model = nn.Sequential(CONVOLUTIONS[name])
    convolution, weight = model[0], model[0].weight
    for checkpoint in both(tmp_path, model):
        matrix = checkpoint.matrix(group="conv")
        out, rest = weight.shape[0], weight[0].numel()
        assert matrix.shape == (out, rest)
        x = torch.randn(1, convolution.in_channels, *weight.shape[2:])
        seen = x.flatten().unflatten(0, (convolution.groups, rest))
        rows = matrix.unflatten(0, (convolution.groups, -1))
        bias = 0 if convolution.bias is None else convolution.bias
        with torch.no_grad():
            result = torch.einsum("gok,gk->go", rows, seen).flatten() + bias
            torch.testing.assert_close(result, model(x).flatten(), rtol=1e-4, atol=1e-5)
        assert checkpoint.detection.guesses == ("*.weight -> conv",)


TRANSPOSED = {
    "1d": nn.ConvTranspose1d(4, 6, 5, bias=False),
    "2d": nn.ConvTranspose2d(4, 6, (3, 5), bias=False),
    "3d": nn.ConvTranspose3d(4, 6, (2, 3, 4), bias=False),
    "grouped": nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False),
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed_convolutions_of_live_modules(tmp_path, name):
    """One input feature at a time makes a picture of the kernel in each output feature."""
    model = nn.Sequential(TRANSPOSED[name])
    module, weight = model[0], model[0].weight
    with weightscope.open_checkpoint(model) as checkpoint:
        matrix = checkpoint.matrix(group="conv")
        per_group = module.in_channels // module.groups
        kernel = weight[0, 0].numel()
        assert matrix.shape == (6, per_group * kernel)
        assert "Transposed convolutions, such as '0.weight'" in checkpoint.notes[0]
        for feature in range(module.in_channels):
            x = torch.zeros(1, module.in_channels, *[1] * (weight.dim() - 2))
            x[0, feature] = 1
            with torch.no_grad():
                picture = model(x).flatten(2)[0]
            group, inside = divmod(feature, per_group)
            rows = range(group * 6 // module.groups, (group + 1) * 6 // module.groups)
            for row in range(6):
                found = (
                    matrix[row].unflatten(0, (per_group, kernel))[inside]
                    if row in rows
                    else torch.zeros(kernel)
                )
                assert torch.equal(found, picture[row])
    with weightscope.open_checkpoint(saved(tmp_path, model)) as checkpoint:
        assert checkpoint.matrix(group="conv").shape == (4, weight[0].numel())
    table = weightscope.analyze(model, groups="all", spectrum=True).table
    assert len(table) == 1


class Bottleneck(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, 4, 1), nn.Conv2d(4, 4, 3)
        self.bn1 = nn.BatchNorm2d(4)
        self.downsample = nn.Sequential(nn.Conv2d(width, 4, 1), nn.BatchNorm2d(4))


class ResNet(nn.Module):
    """torchvision's names."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 7), nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(Bottleneck(8), Bottleneck(4))
        self.layer2 = nn.Sequential(Bottleneck(4))
        self.fc = nn.Linear(4, 10)


def test_resnet(tmp_path):
    model = ResNet()
    for checkpoint in both(tmp_path, model):
        state = model.state_dict()
        for matrix in checkpoint.matrices:
            assert str(matrix.group) == ("other" if matrix.parameter == "fc.weight" else "conv")
            assert matrix.layer is None
            assert torch.equal(
                checkpoint.matrix(parameter=matrix.parameter), state[matrix.parameter].flatten(1)
            )
        assert len(checkpoint.matrices) == 1 + 3 * 3 + 1
        assert checkpoint.detection.guesses == (
            "conv1.weight -> conv",
            "layer1.*.conv1.weight -> conv", "layer1.*.conv2.weight -> conv",
            "layer1.*.downsample.*.weight -> conv",
            "layer2.*.conv1.weight -> conv", "layer2.*.conv2.weight -> conv",
            "layer2.*.downsample.*.weight -> conv",
        )  # fmt: skip
        assert_complete(checkpoint)


def test_numbered_convolutions_are_in_no_layer(tmp_path):
    """As a ResNet of transformers has them: the numbers start anew in every stage."""
    stages = {f"stages.{i}.layers.{j}.weight": torch.randn(4, 3, 2, 2) for i in range(2) for j in range(2)}
    with weightscope.open_checkpoint(write_checkpoint(tmp_path, stages)) as checkpoint:
        assert {(m.stack, m.layer, str(m.group)) for m in checkpoint.matrices} == {("", None, "conv")}
        assert checkpoint.detection.guesses == ("stages.*.layers.*.weight -> conv",)


THREE_DIMENSIONS = {
    "layers.0.mlp.experts.gate_up.weight": (4, 6, 8),
    "layers.0.mlp.experts.conv": (4, 6, 8),
    "layers.0.block_sparse_moe.input_linear.weight": (4, 6, 8),
    "bilinear.weight": (4, 6, 8),
    "pos_embedding": (1, 6, 8),
    "class_token": (1, 1, 8),
}


@pytest.mark.parametrize("name", THREE_DIMENSIONS)
def test_other_tensors_of_three_dimensions_are_no_convolutions(tmp_path, name):
    state = {name: torch.randn(THREE_DIMENSIONS[name]), "fc.weight": torch.randn(3, 4)}
    with weightscope.open_checkpoint(write_checkpoint(tmp_path, state)) as checkpoint:
        assert groups(checkpoint) == {"other"}
        assert_complete(checkpoint)


def test_a_normalisation_over_three_dimensions_is_no_convolution(tmp_path):
    with weightscope.open_checkpoint(saved(tmp_path, nn.LayerNorm([3, 4, 5]))) as checkpoint:
        assert not checkpoint.matrices
        assert_complete(checkpoint)


@pytest.mark.parametrize("dim", [0, 2])
def test_magnitudes_of_a_normalised_weight_are_no_matrix(tmp_path, dim):
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 6, 3), dim=dim))
    with weightscope.open_checkpoint(saved(tmp_path, model)) as checkpoint:
        (matrix,) = checkpoint.matrices
        assert (str(matrix.group), matrix.shape) == ("conv", (6, 12))
        direction = "0.parametrizations.weight.original1"
        assert [entry.reason for entry in checkpoint.skipped] == [f"magnitudes of {direction}"]


def test_the_table_of_a_live_module_is_that_of_its_file(tmp_path):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Conv1d(3, 8, 5), nn.ReLU(), nn.Conv1d(8, WIDTH, 3))
            self.rnn = nn.LSTM(WIDTH, WIDTH)
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(**LAYER), 2)

    model = Mixed()
    tables = [weightscope.analyze(source, groups="all").table for source in (model, saved(tmp_path, model))]
    live, from_disk = (table.drop(columns="checkpoint") for table in tables)
    assert live.equals(from_disk)
    assert set(live["group"]) == {"Q", "K", "V", "O", "QKV", "M1", "M2", "conv", "other"}
