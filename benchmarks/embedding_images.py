"""Image embeddings: fedprep against the bare encoder, and a second build against the first.

    python benchmarks/embedding_images.py [--pictures 256] [--size 224] [--threads 2] [--rounds 3]

Drawn JPEG files of 500 × 333 pixels in a zip, EfficientNet-Lite0 with the packaged weights, in turns in one
process:

- bare encoder: the model as timm makes it, on tensors that are in memory already, nothing else, at the batch
  size and the number of threads an operation that suit it best;
- decoding: files to pixels of the model's size, nothing else;
- script: what one writes by hand: decode a batch, encode it, decode the next;
- fedprep: `embed_images` as a whole, from the zip to the cache (loading the model apart, as for the others).

Limits: fedprep at least 0.95 of the bare encoder's pictures per second, though it decodes them; at least
0.95 of the pictures per second of CPU that decoding and the bare encoder leave possible (this one holds on
a busy machine, too); the second build decodes and embeds nothing.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image
from tables import Line, show

from fedprep.embed.images import embed_images
from fedprep.embed.timm_encoder import timm_encoder
from fedprep.embed.timm_weights import build_model
from fedprep.embed.torch_setup import choose_device, cpu_threads, import_torch
from fedprep.recipe import EmbedImage


def drawn(n: int) -> list[bytes]:
    """Returns n different JPEG files: smooth colours with discs on them."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:333, :500]
    files = []
    for _ in range(n):
        wave = rng.normal(size=(3, 4))
        pixels = np.stack(
            [a * x / 80 + b * y / 80 + c * np.sin(x / 30 + d) for a, b, c, d in wave], -1
        )
        pixels = 128 + 40 * pixels
        for _ in range(6):
            disc = (x - rng.integers(500)) ** 2 + (y - rng.integers(333)) ** 2 < rng.integers(6_000)
            pixels[disc] = rng.integers(0, 256, 3)
        file = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
        files.append(file.getvalue())
    return files


def timed(work: Callable[[], object]) -> np.ndarray:
    """Returns the seconds that work takes: of the clock, of the CPU."""
    begin = np.array([time.perf_counter(), time.process_time()])
    work()
    return np.array([time.perf_counter(), time.process_time()]) - begin


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()

    torch = import_torch("image")
    device = choose_device(given.device)
    options = EmbedImage(encoder="efficientnet-lite0", size=given.size)
    encoder = timm_encoder(options, device=device)
    model = encoder.load()
    bare = build_model(encoder.architecture, encoder.state(), size=given.size).eval()
    bare = bare.to(device, memory_format=torch.channels_last)
    files = drawn(given.pictures)

    def tensors(pixels: np.ndarray) -> Any:
        return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)

    def run(batches: list[Any]) -> None:
        with torch.inference_mode():
            for batch in batches:
                bare(batch).cpu()

    def script(size: int) -> None:
        for low in range(0, len(files), size):
            run([tensors(np.stack([model.pixels(data) for data in files[low : low + size]]))])

    inputs = tensors(np.stack([model.pixels(data) for data in files]))
    seconds: dict[tuple[int, int], np.ndarray] = {}
    for count in sorted({1, given.threads}):
        for size in (2, 4, 8, 16, 32, 64):
            with cpu_threads(count):
                some = list(inputs[:64].split(size))
                run(some[:1])
                taken = [timed(lambda some=some: run(some)) for _ in range(2)]
                seconds[size, count] = np.min(taken, axis=0)
    size, count = min(seconds, key=lambda setting: seconds[setting][0])
    frugal = min(seconds, key=lambda setting: seconds[setting][1])

    items = pl.DataFrame({"source_id": [str(i) for i in range(len(files))]}).with_columns(
        image=pl.lit(None, pl.String)
    )
    times: dict[str, list[np.ndarray]] = {
        name: [] for name in ("bare", "frugal", "decoding", "script", "fedprep", "again")
    }
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "pictures.zip"
        with zipfile.ZipFile(store, "w") as file:
            for i, data in enumerate(files):
                file.writestr(f"{i}.jpg", data)
        for turn in range(given.rounds):
            cache = Path(folder) / f"cache {turn}"
            whole = lambda cache=cache: embed_images(  # noqa: E731
                items, options, store=store, cache=cache, device=device, threads=given.threads
            )
            with cpu_threads(count):
                times["bare"].append(timed(lambda: run(list(inputs.split(size)))))
                times["script"].append(timed(lambda: script(size)))
            with cpu_threads(frugal[1]):
                times["frugal"].append(timed(lambda: run(list(inputs.split(frugal[0])))))
            times["decoding"].append(timed(lambda: [model.pixels(data) for data in files]))
            load = timed(encoder.load)
            times["fedprep"].append(timed(whole) - load)
            times["again"].append(timed(whole))
    clock, cpu = ({name: t[i] for name, t in _best(times).items()} for i in (0, 1))
    to_bare = clock["bare"] / clock["fedprep"]
    to_possible = (cpu["frugal"] + cpu["decoding"]) / cpu["fedprep"]
    to_again = clock["fedprep"] / clock["again"]
    n = len(files)
    return show(
        f"{n} pictures, EfficientNet-Lite0 at {given.size} pixels, {device}, {given.threads} threads",
        [
            Line(
                f"bare encoder (batches of {size}, {count} threads)", f"{n / clock['bare']:.1f}/s"
            ),
            Line("script: decode, then encode", f"{n / clock['script']:.1f}/s"),
            Line("fedprep, decoding included", f"{n / clock['fedprep']:.1f}/s"),
            Line("fedprep to bare encoder", f"{to_bare:.2f}", ">= 0.95", to_bare >= 0.95),
            Line("bare encoder, of CPU", f"{n / cpu['frugal']:.1f}/s"),
            Line("decoding, of CPU", f"{n / cpu['decoding']:.1f}/s"),
            Line("fedprep, of CPU", f"{n / cpu['fedprep']:.1f}/s"),
            Line("fedprep to both, of CPU", f"{to_possible:.2f}", ">= 0.95", to_possible >= 0.95),
            Line("second build", f"{to_again:.0f} times", ">= 20", to_again >= 20),
        ],
    )


def _best(times: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns the least of each: what else the machine does only adds."""
    return {name: np.min(taken, axis=0) for name, taken in times.items()}


if __name__ == "__main__":
    sys.exit(main())
