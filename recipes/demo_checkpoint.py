"""Train the demo checkpoint: a byte-level GPT-2 that has read Python's standard library.

    python recipes/demo_checkpoint.py --out weightscope/demo --log docs/pages/assets/demo_loss.csv
    python recipes/demo_checkpoint.py --out /some/folder --steps 20          # a smoke run, seconds

The text is what every Python installation has: the `.py` files of its standard library, without the
test suites (licence: the PSF License Version 2, see LICENSE.txt of your Python). The model is plain
`GPT2LMHeadModel` of transformers: 4 layers, width 128, 4 heads, 256 byte tokens, 256 positions. It is
saved in bfloat16, so `model.safetensors` stays under 2 MB.

About half an hour on two CPU cores. Another Python version has another standard library and so
another text, and gives another model: the first line printed names the text's SHA-256.
"""

import argparse
import csv
import hashlib
import math
import platform
import sysconfig
import time
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

# ------------------------------------------------------------------------------------ the dials
CONTEXT = 256  # bytes a sample
BATCH = 32  # samples a step
PEAK_RATE = 3e-3  # about ten times GPT-2's rate, which width 128 bears; not tuned
WARMUP = 100  # steps
WEIGHT_DECAY = 0.1  # on matrices only, as GPT-3's appendix B
HELD_OUT_EVERY = 20  # each 20th file is never trained on
EVALUATE_EVERY = 100  # steps
NOT_LIBRARY = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3"}


# ------------------------------------------------------------------------------------ the text
def read_standard_library() -> tuple[bytes, bytes, int]:
    """The sources as (training bytes, held-out bytes, number of files), in path order."""
    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(path for path in root.rglob("*.py") if not NOT_LIBRARY & set(path.relative_to(root).parts))
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    for position, path in enumerate(files):
        parts[position % HELD_OUT_EVERY == 0].append(path.read_bytes())
    return b"\n".join(parts[0]), b"\n".join(parts[1]), len(files)


def sample(text: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """BATCH windows of CONTEXT + 1 bytes at random places, shape (BATCH, CONTEXT + 1)."""
    starts = torch.randint(len(text) - CONTEXT - 1, (BATCH,), generator=generator)
    return torch.stack([text[start : start + CONTEXT + 1] for start in starts.tolist()]).long()


# ------------------------------------------------------------------------------------ the model
def build() -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=256, n_positions=CONTEXT, n_embd=128, n_layer=4, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def loss_of(model: GPT2LMHeadModel, windows: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats a byte."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(windows[:, :-1]).logits
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())


# ------------------------------------------------------------------------------------ the run
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for config.json and model.safetensors"
    )
    parser.add_argument("--log", type=Path, help="CSV of step, training and held-out loss, seconds")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    train_bytes, held_bytes, files = read_standard_library()
    print(
        f"text: Python {platform.python_version()}, {files} files, {len(train_bytes):,} training bytes, "
        f"{len(held_bytes):,} held out, sha256 {hashlib.sha256(train_bytes).hexdigest()}"
    )
    train, held = (torch.frombuffer(bytearray(part), dtype=torch.uint8) for part in (train_bytes, held_bytes))

    torch.manual_seed(options.seed)
    model = build()
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}],
        lr=PEAK_RATE,
        betas=(0.9, 0.95),
    )

    def rate_factor(step: int) -> float:
        if step < WARMUP:
            return (step + 1) / WARMUP
        progress = (step - WARMUP) / max(1, options.steps - WARMUP)
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate_factor)
    batches = torch.Generator().manual_seed(options.seed + 1)
    held_windows = [sample(held, torch.Generator().manual_seed(options.seed + 2 + i)) for i in range(8)]

    rows: list[tuple[int, float, float, float]] = []
    started, running = time.perf_counter(), []
    for step in range(options.steps):
        loss = loss_of(model, sample(train, batches))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        running.append(loss.item())
        if (step + 1) % EVALUATE_EVERY == 0 or step + 1 == options.steps:
            with torch.no_grad():
                held_loss = sum(loss_of(model, w).item() for w in held_windows) / len(held_windows)
            seconds = time.perf_counter() - started
            rows.append((step + 1, sum(running) / len(running), held_loss, seconds))
            print(
                f"step {step + 1:5d}  training {rows[-1][1]:.4f}  held out {held_loss:.4f} nats/byte"
                f"  {seconds:6.0f} s",
                flush=True,
            )
            running = []

    model.to(torch.bfloat16).save_pretrained(options.out)
    (options.out / "generation_config.json").unlink(missing_ok=True)
    if options.log:
        options.log.parent.mkdir(parents=True, exist_ok=True)
        with options.log.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "training_loss", "held_out_loss", "seconds"])
            writer.writerows(rows)
    print(f"saved to {options.out}")


if __name__ == "__main__":
    main()
