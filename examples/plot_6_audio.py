"""
Audio: an alarm in a stream
===========================

A detector hears sound in chunks as a microphone delivers them. Evaluated chunk by chunk, it sees zeros at both ends of
each chunk, and misses alarms that lie across two. `bl.Stream` gives the output of the whole recording, with a known
delay.

The recordings are made here: noise, with a short rising tone as the alarm.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import borderless as bl

torch.manual_seed(0)
RATE, ALARM = 8000, 800  # samples per second, samples of an alarm
time = torch.arange(ALARM) / RATE
tone = torch.sin(2 * torch.pi * (600 * time + 3000 * time**2)) * torch.hann_window(ALARM)


def record(seconds, alarms):
    """A recording (1, 1, T) with alarms at random, and whether one sounds at each sample."""
    sound, truth = 0.5 * torch.randn(1, 1, seconds * RATE), torch.zeros(1, 1, seconds * RATE)
    for start in torch.randint(0, seconds * RATE - ALARM, (alarms,)):
        sound[..., start : start + ALARM] += tone
        truth[..., start : start + ALARM] = 1
    return sound, truth


# %%
# An ordinary network, not causal: strides of 4 twice, dilated convolutions, and a score for every 16 samples.

model = nn.Sequential(
    nn.Conv1d(1, 16, 16, stride=4, padding=6), nn.ReLU(), nn.Conv1d(16, 16, 16, stride=4, padding=6), nn.ReLU(),
    nn.Conv1d(16, 16, 9, padding=8, dilation=2), nn.ReLU(), nn.Conv1d(16, 16, 9, padding=16, dilation=4), nn.ReLU(),
    nn.Conv1d(16, 1, 1),
)  # fmt: skip
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for _ in range(60):
    sound, truth = record(2, 4)
    loss = nn.functional.binary_cross_entropy_with_logits(model(sound), truth[..., ::16])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
model.eval()

# %%
# Three seconds in chunks of 50 ms: each chunk by itself, as a stream, and at once.

sound, truth = record(3, 4)
chunks = sound.split(400, dim=-1)
stream = bl.Stream(model)
with torch.no_grad():
    whole = model(sound)
    apart = torch.cat([model(chunk) for chunk in chunks], -1)
streamed = [stream.push(chunk) for chunk in chunks]
print(f"delay {1000 * stream.latency / RATE:.0f} ms, {stream.nbytes / 1024:.0f} KiB kept between chunks")
streamed = torch.cat([*streamed, stream.push(sound[..., :0], last=True)], -1)
print(f"largest difference to the whole: {float((streamed - whole).abs().max()):.0e}")

seconds = torch.arange(whole.shape[-1]) * 16 / RATE
fig, axes = plt.subplots(3, 1, figsize=(9, 5), sharex=True, layout="constrained")
axes[0].plot(torch.arange(sound.shape[-1]) / RATE, sound[0, 0], linewidth=0.3, color="gray")
axes[0].set_title("recording, and where the alarms are", fontsize=10)
for ax, scores, title in zip(axes[1:], (apart, streamed), ("chunk by chunk", "bl.Stream"), strict=True):
    probability, expected = scores[0, 0].sigmoid(), whole[0, 0].sigmoid()
    changed = 100 * ((probability > 0.2) != (expected > 0.2)).float().mean()
    ax.plot(seconds, probability)
    ax.axhline(0.2, color="gray", linestyle="--", linewidth=0.5)
    ax.set_title(f"{title}: {changed:.1f} % of the decisions differ from those on the whole recording", fontsize=10)
for ax in axes:
    ax.fill_between(seconds, *ax.get_ylim(), where=truth[0, 0, ::16] > 0, alpha=0.2, color="tab:orange")
axes[-1].set_xlabel("seconds")
plt.show()
