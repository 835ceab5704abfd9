"""The tasks of paper A: norms, labels, orthogonality to the last bit, and seeds."""

import math

import pytest
import torch

from tests.training.sets import pictures
from weightscope.errors import DataFormatError, OptionError
from weightscope.training.data import ARMS, decay_task, image_tasks, merging_tasks
from weightscope.training.image_set import DataSource, ImageSet
from weightscope.training.seeds import generator_for
from weightscope.training.task import draw, stack

# Rounding of the projection in float64, and of d entries to the dtype: relative, half an ulp each.
NORM_ERROR = {torch.float64: 1e-15, torch.float32: 2**-24}


def generator(seed=0):
    return generator_for(seed, "data")


def image_set(count=200, size=(6, 6), **fields):
    images, labels = pictures(count, size)
    return ImageSet(
        name="random",
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        class_names=tuple("0123456789"),
        source=DataSource(reference="numpy", split="train", files=()),
        **fields,
    )


MAKERS = {
    "decay": lambda g, **o: [decay_task(g, samples=300, **o)],
    **{f"merging {arm}": lambda g, arm=arm, **o: merging_tasks(g, samples=300, arm=arm, **o) for arm in ARMS},
    **{
        f"images {arm}": lambda g, arm=arm, **o: image_tasks(g, image_set(), samples=80, arm=arm, **o)
        for arm in ARMS
    },
}
every = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_are_on_the_sphere_and_labels_are_signs(make, dtype):
    for task in make(generator(), dtype=dtype):
        assert task.inputs.dtype == task.labels.dtype == dtype
        norms = torch.linalg.vector_norm(task.inputs.double(), dim=1)
        assert (norms - 1).abs().max() <= NORM_ERROR[dtype]
        assert set(task.labels.tolist()) == {-1.0, 1.0}


@every
def test_a_seed_gives_the_same_bits_and_another_seed_other_data(make):
    first, again, other = (stack(make(generator(seed))) for seed in (3, 3, 4))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.inputs, other.inputs)
    # Rows of independent draws are at the angles of independent rows.
    if first.inputs.shape[-1] == 100:
        cosines = first.inputs[0] @ other.inputs[0].T
        assert cosines.abs().max() < 0.8
        assert cosines.mean().abs() < 0.01


@every
def test_float32_is_float64_rounded(make):
    single, double = stack(make(generator())), stack(make(generator(), dtype=torch.float64))
    assert torch.equal(single.inputs, double.inputs.float())
    assert torch.equal(single.labels, double.labels.float())


@pytest.mark.parametrize("name", ["merging different", "images different"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inputs_of_different_tasks_are_orthogonal_exactly(name, dtype):
    first, second = MAKERS[name](generator(), dtype=dtype)
    assert torch.count_nonzero(first.inputs @ second.inputs.T) == 0
    half = first.inputs.shape[1] // 2
    assert torch.count_nonzero(first.inputs[:, half:]) == torch.count_nonzero(second.inputs[:, :half]) == 0


@pytest.mark.parametrize("kind", ["merging", "images"])
def test_the_first_task_is_the_same_in_every_arm(kind):
    tasks = {arm: MAKERS[f"{kind} {arm}"](generator())[0] for arm in ARMS}
    width = tasks["conflicting"].inputs.shape[1]
    for task in tasks.values():
        assert torch.equal(task.inputs[:, :width], tasks["conflicting"].inputs)
        assert torch.equal(task.labels, tasks["conflicting"].labels)


@pytest.mark.parametrize("frequency", [1.0, 10.0, 100.0])
def test_labels_of_the_decay_task_are_the_formula(frequency):
    """y = 2·1(1/(1 + e^−f) ≥ 1/2) − 1, f = sin(frequency wᵀx), with the w that was drawn first."""
    task = decay_task(generator(7), frequency=frequency, dtype=torch.float64)
    target = torch.randn(100, generator=generator(7), dtype=torch.float64)
    assert task.inputs.shape == (1000, 100)
    for row, label in zip(task.inputs[:200], task.labels[:200], strict=True):
        f = math.sin(frequency * float(row @ target))
        assert float(label) == 2 * (1 / (1 + math.exp(-f)) >= 0.5) - 1


def test_the_frequency_changes_the_labels_alone():
    slow, fast = (decay_task(generator(), frequency=frequency) for frequency in (10.0, 100.0))
    assert torch.equal(slow.inputs, fast.inputs)
    # Independent signs agree half the time: within five standard deviations.
    assert abs(float((slow.labels == fast.labels).float().mean()) - 0.5) < 5 * 0.5 / math.sqrt(1000)


def test_labels_are_balanced_over_draws():
    """Every law is symmetric, so a label's mean over draws is 0; each draw counts for less than n samples."""
    for make in (
        lambda g: decay_task(g),
        lambda g: merging_tasks(g, samples=1000),
        lambda g: merging_tasks(g, samples=1000, label_of="drawn"),
    ):
        labels = draw(range(40), make).labels
        assert labels.mean(dim=-1).abs().max() < 5 / math.sqrt(1000)
        assert labels.mean().abs() < 5 / math.sqrt(40 * 1000)


def test_projected_labels_are_nearly_linear_and_drawn_ones_are_not():
    """P(|wᵀx| > π) for wᵀx nearly N(0, 1) is 0.0017; before the projection wᵀx has deviation 7."""
    agreement = {}
    for label_of in ("projected", "drawn"):
        first = draw(
            range(20),
            lambda g, label_of=label_of: merging_tasks(
                g, samples=1000, label_of=label_of, dtype=torch.float64
            ),
        )
        targets = torch.stack(
            [torch.randn(100, generator=generator(s), dtype=torch.float64) for s in range(20)]
        )
        scores = torch.einsum("snd,sd->sn", first.inputs[:, 0], targets)
        agreement[label_of] = float((scores.sign() == first.labels[:, 0]).double().mean())
    assert agreement["projected"] == pytest.approx(0.998, abs=0.002)
    assert agreement["drawn"] < 0.65


def test_arms_of_the_merging_tasks():
    first, second = merging_tasks(generator(), samples=400, arm="conflicting")
    assert not torch.equal(first.inputs, second.inputs)
    same, opposite = merging_tasks(generator(), samples=400, arm="conflicting", shared_inputs=True)
    assert torch.equal(same.inputs, opposite.inputs)
    assert abs(float((same.labels == opposite.labels).float().mean()) - 0.5) < 0.25
    # One target in `identical`: a line that separates task 1 separates task 2.
    target = torch.randn(100, generator=generator(), dtype=torch.float64)
    for task in merging_tasks(generator(), samples=400, arm="identical", dtype=torch.float64):
        assert ((task.inputs @ target).sign() == task.labels).double().mean() > 0.98


def test_image_tasks_are_the_pictures():
    images = image_set(60, (3, 4))
    first, second = image_tasks(generator(), images, samples=60, dtype=torch.float64)
    rows = images.flat().double()
    rows /= rows.norm(dim=1, keepdim=True)
    # All 60 are drawn, each once: sort both by their first pixels and they are the same.
    shown = first.inputs[:, :12]
    order, expected = torch.argsort(shown[:, 0]), torch.argsort(rows[:, 0])
    assert torch.allclose(shown[order], rows[expected], atol=1e-15)
    assert torch.equal(first.labels[order] > 0, images.labels[expected] >= 5)
    assert torch.equal(shown, second.inputs[:, 12:])
    assert torch.equal(first.labels, -second.labels)


def test_image_tasks_of_other_arms():
    images = image_set(200)
    first, second = image_tasks(generator(), images, samples=100, arm="conflicting")
    assert torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.labels, -second.labels)
    # Any one function's two losses: log(1 + e^−z) + log(1 + e^z) is 2 ln 2 at least.
    scores = first.inputs @ torch.randn(36, generator=generator())
    both = [torch.nn.functional.softplus(-task.labels * scores).mean() for task in (first, second)]
    assert sum(both) / 2 >= math.log(2)
    for options in (
        {"arm": "identical"},
        {"arm": "conflicting", "shared_images": False},
        {"shared_images": False},
    ):
        one, two = image_tasks(generator(), images, samples=100, **options)
        rows = torch.cat([one.inputs[:, :36], two.inputs[:, -36:]])
        assert len(torch.unique(rows, dim=0)) == 200, options  # no picture twice


def test_image_tasks_in_colour_and_balanced():
    images = image_set(60, (4, 4, 3))
    for arm in ARMS:
        for samples in (20, 21):
            for task in image_tasks(generator(), images, samples=samples, arm=arm, balanced=True):
                assert task.inputs.shape == (samples, 96 if arm == "different" else 48)
                assert abs(float(task.labels.sum())) == samples % 2
    positive = image_tasks(generator(), images, samples=60, first_group=9)[0].labels
    assert int((positive > 0).sum()) == 6


def test_draws_are_stacked():
    tasks = draw([0, 1, 5], lambda g: merging_tasks(g, samples=7, dimension=10))
    assert tasks.inputs.shape == (3, 2, 7, 10)
    assert tasks.labels.shape == (3, 2, 7)
    alone = merging_tasks(generator(5), samples=7, dimension=10)
    assert torch.equal(tasks.inputs[2, 1], alone[1].inputs)
    assert draw([2], lambda g: decay_task(g, samples=4)).inputs.shape == (1, 4, 100)
    with pytest.raises(OptionError, match="stacked"):
        stack([decay_task(generator(), samples=4), decay_task(generator(), samples=5)])
    with pytest.raises(OptionError, match="stacked"):
        draw([], decay_task)


def test_purposes_of_a_seed_have_nothing_in_common():
    data, weights = (
        torch.randn(1000, generator=generator_for(0, name)) for name in ("data", "initial weights")
    )
    assert abs(float(torch.corrcoef(torch.stack([data, weights]))[0, 1])) < 5 / math.sqrt(1000)
    assert generator_for(0, "data").device.type == "cpu"
    states = {generator_for(seed, "data").initial_seed() for seed in (0, 1, 2**32 - 1)}
    assert len(states) == 3
    for seed in (-1, 2**32):
        with pytest.raises(OptionError, match="seed"):
            generator_for(seed, "data")


def test_the_numbers_of_a_seed_do_not_change():
    """Published runs name seeds: these are the numbers of torch 2.13's Mersenne Twister, to float32."""
    task = merging_tasks(generator(0), samples=20)[0]
    assert task.inputs[0, :3].tolist() == pytest.approx(EXPECTED, rel=1e-6)


EXPECTED = [-0.12117774, 0.019523775, -0.22250596]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: decay_task(generator(), samples=0), "samples=0"),
        (lambda: decay_task(generator(), dimension=0), "dimension=0"),
        (lambda: merging_tasks(generator(), samples=0), "samples=0"),
        (lambda: merging_tasks(generator(), samples=5, dimension=7), "even"),
        (lambda: merging_tasks(generator(), samples=5, shared_inputs=True), "arm conflicting"),
        (lambda: image_tasks(generator(), image_set(), samples=201), "201 pictures.* 200"),
        (lambda: image_tasks(generator(), image_set(), samples=101, arm="identical"), "202 pictures"),
        (
            lambda: image_tasks(generator(), image_set(), samples=120, first_group=9, balanced=True),
            "60 .* 20",
        ),
        (lambda: image_tasks(generator(), image_set(), samples=5, first_group=10), "Both labels"),
        (lambda: image_tasks(generator(), image_set(), samples=5, first_group=0), "Both labels"),
    ],
)
def test_options_out_of_range(call, words):
    with pytest.raises(OptionError, match=words):
        call()


def test_a_black_picture_has_no_direction():
    images = image_set(20)
    images.images[13] = 0
    with pytest.raises(DataFormatError, match="Picture 13 is all black"):
        image_tasks(generator(), images, samples=20)
