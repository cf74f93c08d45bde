"""Devices that networks can run on."""

from borderless.errors import ConfigError


def check_device(device: str) -> None:
    """Check that networks can run on `device` on this machine.

    Raises:
        ConfigError: `device` is no device's name, or PyTorch does not see it here.
    """
    if device == "cpu":
        return
    import torch  # seconds: only who names another device pays

    try:
        found = torch.device(device)
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        is_here = found.type == "cpu" or (
            accelerator is not None
            and found.type == accelerator.type
            and (found.index or 0) < torch.accelerator.device_count()
        )
    except RuntimeError:  # not a device's name
        is_here = False
    if not is_here:
        raise ConfigError(
            f"Expected cpu, or cuda, cuda:1, … on a machine with as many GPUs, but got device={device!r}, and PyTorch "
            f"sees {torch.cuda.device_count()} GPUs here; choose another device."
        )
