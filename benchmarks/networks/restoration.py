"""Super-resolution and denoising: spandrel, super_image."""

import importlib

import super_image
from torch import nn

from benchmarks.networks import Network

SHAPE = (3, 64, 64)


def _spandrel(family: str, kind: str, **options: object) -> nn.Module:
    return getattr(importlib.import_module(f"spandrel.architectures.{family}"), kind)(**options)


NETWORKS = {
    "spandrel/DnCNN": Network(lambda: _spandrel("DnCNN", "DnCNN", in_nc=3, out_nc=3, nc=16, nb=8), SHAPE),
    "spandrel/NAFNet": Network(
        lambda: _spandrel("NAFNet", "NAFNet", width=8, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1]), SHAPE
    ),
    "spandrel/OmniSR": Network(lambda: _spandrel("OmniSR", "OmniSR", num_feat=32, up_scale=2), SHAPE),
    "spandrel/PLKSR": Network(lambda: _spandrel("PLKSR", "PLKSR", dim=32, n_blocks=2, upscaling_factor=2), SHAPE),
    "spandrel/RRDBNet(ESRGAN)": Network(
        lambda: _spandrel("ESRGAN", "ESRGAN", num_filters=16, num_blocks=2, scale=2), SHAPE
    ),
    "spandrel/SPAN": Network(
        lambda: _spandrel("SPAN", "SPAN", num_in_ch=3, num_out_ch=3, feature_channels=16, upscale=2), SHAPE
    ),
    "spandrel/SRVGGNetCompact": Network(
        lambda: _spandrel("Compact", "Compact", num_feat=16, num_conv=6, upscale=2), SHAPE
    ),
}
# The smallest that each takes.
OPTIONS = {
    "A2n": {},
    "Awsrn": {"n_resblocks": 1, "n_feats": 16, "block_feats": 32},
    "Carn": {},
    "Ddbpn": {},
    "Edsr": {"n_resblocks": 4, "n_feats": 16},
    "Mdsr": {"n_resblocks": 4, "n_feats": 16},
    "Msrn": {},
    "Pan": {},
}
NETWORKS |= {
    f"super_image/{name}": Network(
        lambda name=name, options=options: getattr(super_image, f"{name}Model")(
            getattr(super_image, f"{name}Config")(scale=2, **options)
        ),
        (3, 48, 48),
    )
    for name, options in OPTIONS.items()
}
