"""Which numbers the vision towers compute in."""

import torch

from model.settings import PresetError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """Return the numbers to compute in on a device; `auto` takes bfloat16 where the hardware multiplies it natively.

    Raises PresetError for an unknown name.
    """
    if precision == "auto":
        return torch.bfloat16 if _native_bfloat16(device) else torch.float32
    if precision not in DTYPES:
        raise PresetError(f"precision knows no {precision!r}; it takes one of: {', '.join(DTYPES)}, auto.")
    return DTYPES[precision]


def _native_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    flags = torch.cpu.get_capabilities()
    return bool(flags.get("avx512_bf16") or flags.get("amx_bf16"))
